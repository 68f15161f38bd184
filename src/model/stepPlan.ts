import type { CachedSequences } from '../memory/keyValueCache';
import type { IndexView, MatrixView } from '../memory/matrixView';
import type { Planner } from '../memory/workspace';
import { atLayer, planSequence, type SequenceSlots } from './attention';
import { type BlockSlots, forEachKind } from './block';
import type { EmbeddingSlots } from './embedding';
import type { LinearSlots, RMSNormSlots } from './layers';
import type { ModelParts } from './parts';

/** The memory of a step of T tokens: matrices in the decoder's workspace. */
export interface StepPlan {
  /** [T] token ids */
  ids: IndexView;
  sequence: SequenceSlots;
  embedding: EmbeddingSlots;
  /** Slots of each block; those of one kind (mixture or dense) only differ in the layer. */
  blocks: BlockSlots[];
  /** [T,H] input of each block, followed by the output of the last; two buffers alternate. */
  residual: MatrixView[];
  planner: Planner;
}

/** The final norm and lm_head of R of the tokens. */
export interface HeadPlan {
  /** [R] indices of the tokens */
  rows: IndexView;
  /** [R,H] their rows of the last block's output */
  gathered: MatrixView;
  norm: RMSNormSlots;
  /** [R,H] output of the final norm */
  normOut: MatrixView;
  lmHead: LinearSlots;
  planner: Planner;
}

/** @param cached the sequences; null to plan only the size. @param before the planner whose end this plan starts at. */
export function planStep(
  { config, embedding, blocks }: ModelParts,
  cached: CachedSequences | null,
  before: Planner,
  tokens: number,
): StepPlan {
  const planner = before.behind();
  const sequence = planSequence(planner, tokens, 1, cached);
  const shared = forEachKind<BlockSlots>(blocks, (block, first) =>
    block.plan(planner, tokens, 1, sequence, first),
  );
  const buffers = [0, 1].map(() => planner.floats(tokens, config.hiddenDim));
  return {
    planner,
    sequence,
    ids: planner.ints(tokens),
    embedding: embedding.plan(planner, tokens),
    blocks: shared.map((slots, layer) => {
      return cached ? { ...slots, attention: atLayer(slots.attention, cached, layer) } : slots;
    }),
    residual: Array.from({ length: blocks.length + 1 }, (_, i) => buffers[i % 2]),
  };
}

/** @param before the planner whose end this plan starts at. */
export function planHead({ config, norm, lmHead }: ModelParts, before: Planner, rows: number): HeadPlan {
  const planner = before.behind();
  return {
    planner,
    rows: planner.ints(rows),
    gathered: planner.floats(rows, config.hiddenDim),
    norm: norm.plan(planner, rows, 1),
    normOut: planner.floats(rows, config.hiddenDim),
    lmHead: lmHead.plan(planner, rows, 1),
  };
}
