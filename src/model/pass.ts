import type { ModelConfig } from '../config/modelConfig';
import type { IndexView, MatrixView } from '../memory/matrixView';
import { type PlannedMemory, Planner } from '../memory/workspace';
import { planSequence, type SequenceSlots } from './attention';
import { type BlockScratch, type BlockSlots, forEachKind, type TransformerBlock } from './block';
import type { Linear, LinearScratch, LinearSlots, RMSNorm, RMSNormSlots } from './layers';

/** The memory of a forward of one shape: matrices in the workspace. */
export interface ModelPass {
  mode: PassMode;
  batch: number;
  seq: number;
  /** Whether the sequences are samples of any lengths, which `fillSamples` finds; then batch is 1 and seq is T. */
  packed: boolean;
  tokens: number;
  /** [T] token ids */
  ids: IndexView;
  sequence: SequenceSlots;
  /** Slots of each block; all blocks of a kind (mixture or dense) share one object unless 'train' keeps them for a backward. */
  blocks: BlockSlots[];
  /** [T,H] input of each block, followed by the output of the last. */
  residual: MatrixView[];
  norm: RMSNormSlots;
  /** [T,H] output of the final norm */
  normOut: MatrixView;
  lmHead: LinearSlots;
  last: LastSlots;
  loss: LossSlots | null;
  backward: BackwardSlots | null;
  planner: Planner;
}

/**
 * The purpose of a pass, which decides its memory: 'forward' computes logits, 'loss' a loss. 'train' keeps everything that
 * blocks compute, for the gradients; 'recompute' keeps only each block's input, from which the backward computes the block
 * again (gradient checkpointing, Chen et al. 2016).
 */
export type PassMode = 'forward' | 'loss' | 'train' | 'recompute';

/** The final norm and lm_head of only the last position. */
export interface LastSlots {
  /** [1,H] output of the last block */
  x: MatrixView;
  norm: RMSNormSlots;
  /** [1,H] output of the final norm */
  normOut: MatrixView;
  lmHead: LinearSlots;
}

export interface LossSlots {
  /** [T] target ids */
  targets: IndexView;
  /** [T,V] logits, then their gradient in place */
  logits: MatrixView;
  /** [T] cross-entropy of each token */
  losses: MatrixView;
}

export interface BackwardSlots {
  /** [T,H] gradient of the residual stream */
  dX: MatrixView;
  /** [T,H] gradient of the final norm's output */
  dNorm: MatrixView;
  lmHead: LinearScratch;
  /** Scratch of each block; all blocks of a kind share one object. */
  blocks: BlockScratch[];
}

/** The parts of a model, for which passes are planned. */
export interface ModelParts {
  readonly config: ModelConfig;
  readonly blocks: readonly TransformerBlock[];
  readonly norm: RMSNorm;
  readonly lmHead: Linear;
}

/** The number of plans that are kept, for the most recent shapes; a plan has a few dozen matrices a layer. */
const MAX_PLANS = 16;

/** The plans of a model, each made once for a shape. */
export class PassPlans {
  /** The plans, the most recently used first. */
  readonly #plans: ModelPass[] = [];

  /** @param memory the memory of the passes. */
  constructor(
    private readonly parts: ModelParts,
    private readonly memory: PlannedMemory,
  ) {}

  find(batch: number, seq: number, mode: PassMode, packed: boolean): ModelPass {
    const plans = this.#plans;
    for (let i = 0; i < plans.length; i++) {
      const plan = plans[i];
      if (plan.batch !== batch || plan.seq !== seq || plan.mode !== mode || plan.packed !== packed) continue;
      for (let j = i; j > 0; j--) plans[j] = plans[j - 1];
      plans[0] = plan;
      return plan;
    }
    const plan = planPass(this.parts, new Planner(this.memory), batch, seq, mode, packed);
    if (plans.length >= MAX_PLANS) plans.pop();
    plans.unshift(plan);
    return plan;
  }
}

export function planPass(
  { config, blocks, norm, lmHead }: ModelParts,
  planner: Planner,
  batch: number,
  seq: number,
  mode: PassMode,
  packed = false,
): ModelPass {
  const { hiddenDim: H, vocabSize: V, nLayers } = config;
  const training = mode === 'train' || mode === 'recompute';
  const tokens = batch * seq;
  const sequence = planSequence(planner, batch, seq, null, packed ? tokens : batch);
  const plan = (block: TransformerBlock, first?: BlockSlots) =>
    block.plan(planner, batch, seq, sequence, first);
  // Blocks that needn't keep anything share one set of slots; without a backward two residual buffers alternate.
  const slots = mode === 'train' ? blocks.map((block) => plan(block)) : forEachKind(blocks, plan);
  const buffers = Array.from({ length: training ? nLayers + 1 : 2 }, () => planner.floats(tokens, H));
  const residual = Array.from({ length: nLayers + 1 }, (_, i) => buffers[i % buffers.length]);
  const normOut = planner.floats(tokens, H);
  return {
    mode,
    batch,
    seq,
    packed,
    tokens,
    sequence,
    blocks: slots,
    planner,
    ids: planner.ints(tokens),
    residual,
    norm: norm.plan(planner, batch, seq),
    normOut,
    lmHead: lmHead.plan(planner, batch, seq),
    last: {
      x: residual[nLayers].slice(tokens - 1, 1),
      norm: norm.plan(planner, 1, 1),
      normOut: normOut.slice(0, 1),
      lmHead: lmHead.plan(planner, 1, 1),
    },
    loss: mode === 'forward' ? null : planLoss(planner, tokens, V),
    backward: training
      ? {
          dX: planner.floats(tokens, H),
          dNorm: planner.floats(tokens, H),
          lmHead: lmHead.planBackward(planner, batch, seq),
          blocks: forEachKind<BlockScratch>(blocks, (block, first) =>
            block.planBackward(planner, batch, seq, first),
          ),
        }
      : null,
  };
}

function planLoss(planner: Planner, tokens: number, vocabSize: number): LossSlots {
  return {
    targets: planner.ints(tokens),
    logits: planner.floats(tokens, vocabSize),
    losses: planner.floats(tokens),
  };
}
