import type { Collectives } from '../../backend/collectives';
import type { SharingRank } from '../../memory/partition';
import { type PlacedParameter, placedIn, placedParameters } from '../../model/assemble';
import { type ExpertRanks, requireDivisor } from '../../model/expertLayout';
import type { MoETransformer } from '../../model/model';

/** How this rank shares a training's steps. @throws TypeError for other ranks than those over which the model's experts are divided, or adapters. */
export function sharingOf(model: MoETransformer, ranks: Collectives): SharingRank {
  const { rank, size } = ranks;
  const exchange = model.expertExchange;
  if (exchange === null) return { rank, size, groupSize: 1 };
  if (exchange.ranks !== ranks) {
    throw new TypeError("collectives must be those of the model's expertRanks, which divide its experts");
  }
  if (model.lora !== null)
    throw new TypeError('adapters can not be trained where experts are divided over ranks');
  return { rank, size, groupSize: exchange.layout.groupSize };
}

/**
 * The ranks over which a training's experts are divided, `expertParallel` of them for each expert once; undefined where each rank has
 * all. @throws RangeError for a number that isn't a divisor of the ranks'.
 */
export function expertRanksOf(
  collectives: Collectives | undefined,
  expertParallel: number,
): ExpertRanks | undefined {
  requireDivisor('expertParallel', expertParallel, collectives?.size ?? 1);
  return expertParallel === 1 ? undefined : { collectives: collectives!, groupSize: expertParallel };
}

/** The parameters of all ranks that are trained or saved with it, in the order of checkpoints. */
export function parametersOf({ trained, config, expertExchange }: MoETransformer): PlacedParameter[] {
  if (expertExchange !== null) {
    return placedParameters(config, trained, expertExchange.layout);
  }
  return placedIn(trained);
}
