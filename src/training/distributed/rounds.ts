import { setImmediate } from 'node:timers/promises';
import type { Collectives } from '../../backend/collectives';
import type { Batch } from '../../base/batch';
import { IGNORE_INDEX } from '../../config/trainConfig';
import type { MoETransformer } from '../../model/model';
import { checkBatch } from '../checkBatch';
import { throwIfAnyAborted } from './agreement';

/** A batch that this rank computes, or another one. */
interface Turn {
  readonly batch: Batch;
  /** Its targets that count. */
  readonly counted: number;
  readonly isOwn: boolean;
}

/**
 * Deals batches out to the ranks, one each, round by round; the event loop runs between two rounds. Every rank reads and checks a whole round
 * before it computes its batch, so that what is wrong with one is thrown by all and nobody waits for a rank that has given up. To be read to its
 * end: ranks whose experts are divided part there.
 * @throws the signal's reason, on all ranks between the same rounds; as `checkBatch`.
 */
export async function* inTurns(
  model: MoETransformer,
  batches: Iterable<Batch>,
  ranks: Collectives,
  signal: AbortSignal | undefined,
): AsyncGenerator<Turn, void, void> {
  const iterator = batches[Symbol.iterator]();
  for (let isOver = false; !isOver; ) {
    await setImmediate();
    await throwIfAnyAborted(ranks, signal);
    const round: Turn[] = [];
    while (!isOver && round.length < ranks.size) {
      const { done, value: batch } = iterator.next();
      isOver = done === true;
      if (isOver) break;
      const { counted } = checkBatch(batch, model.config, IGNORE_INDEX);
      round.push({ batch, counted, isOwn: round.length === ranks.rank });
    }
    yield* round;
  }
  // Ranks with experts compute those of others' batches, too.
  model.expertExchange?.follow();
}
