import type { Precision } from '../base/precision';
import type { IndexView, MatrixView } from '../memory/matrixView';
import { type PlannedMemory, Planner } from '../memory/workspace';
import { planSequence, type SequenceSlots } from './attention';
import { type BlockScratch, type BlockSlots, forEachKind, type TransformerBlock } from './block';
import type { EmbeddingScratch, EmbeddingSlots } from './embedding';
import type { LinearScratch, LinearSlots, RMSNormSlots } from './layers';
import { type LossSlots, planLoss } from './lossPlan';
import type { ModelParts } from './parts';

/** The memory of a forward of one shape: matrices in the workspace. */
export interface ModelPass {
  mode: PassMode;
  batch: number;
  seq: number;
  /** Whether the sequences are samples of any lengths, which `fillSamples` finds; then batch is 1 and seq is T. */
  packed: boolean;
  precision: Precision;
  tokens: number;
  /** [T] token ids */
  ids: IndexView;
  sequence: SequenceSlots;
  embedding: EmbeddingSlots;
  /** Slots of each block; all blocks of a kind (mixture or dense) share one object unless 'train' keeps them for a backward. */
  blocks: BlockSlots[];
  /** [T,H] input of each block, followed by the output of the last. */
  residual: MatrixView[];
  /** The final norm and lm_head of all tokens; null in the pass of a loss. */
  head: HeadSlots | null;
  /** null in the pass of logits. */
  loss: LossSlots | null;
  backward: BackwardSlots | null;
  planner: Planner;
}

/** What follows the blocks: the logits of all tokens, or a loss of those whose targets count. */
export type PassEnd = 'logits' | 'loss';

/**
 * The purpose of a pass, which decides its memory: 'forward' computes logits, 'loss' a loss. 'train' keeps everything that
 * blocks compute, for the gradients; 'recompute' keeps only each block's input, from which the backward computes the block
 * again (gradient checkpointing, Chen et al. 2016).
 */
export type PassMode = 'forward' | 'loss' | 'train' | 'recompute';

/** The final norm and lm_head of all tokens, for their logits and the gradient of those. */
export interface HeadSlots {
  norm: RMSNormSlots;
  /** [T,H] output of the final norm */
  normOut: MatrixView;
  lmHead: LinearSlots;
  last: LastSlots;
  /** null without a backward; dNorm [T,H] is the gradient of the final norm's output. */
  backward: { dNorm: MatrixView; lmHead: LinearScratch } | null;
}

/** The final norm and lm_head of only the last position. */
export interface LastSlots {
  /** [1,H] output of the last block */
  x: MatrixView;
  norm: RMSNormSlots;
  /** [1,H] output of the final norm */
  normOut: MatrixView;
  lmHead: LinearSlots;
}

export interface BackwardSlots {
  /** [T,H] gradient of the residual stream */
  dX: MatrixView;
  embedding: EmbeddingScratch;
  /** Scratch of each block; all blocks of a kind share one object. */
  blocks: BlockScratch[];
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

  find(
    batch: number,
    seq: number,
    mode: PassMode,
    end: PassEnd,
    packed: boolean,
    precision: Precision = 'float32',
  ): ModelPass {
    const plans = this.#plans;
    const isLoss = end === 'loss';
    for (let i = 0; i < plans.length; i++) {
      const plan = plans[i];
      if (plan.batch !== batch || plan.seq !== seq || plan.mode !== mode || plan.packed !== packed) continue;
      if ((plan.loss !== null) !== isLoss || plan.precision !== precision) continue;
      for (let j = i; j > 0; j--) plans[j] = plans[j - 1];
      plans[0] = plan;
      return plan;
    }
    const planner = new Planner(this.memory, precision);
    const plan = planPass(this.parts, planner, batch, seq, mode, end, packed);
    if (plans.length >= MAX_PLANS) plans.pop();
    plans.unshift(plan);
    return plan;
  }
}

export function planPass(
  parts: ModelParts,
  planner: Planner,
  batch: number,
  seq: number,
  mode: PassMode,
  end: PassEnd,
  packed = false,
): ModelPass {
  const { blocks, embedding } = parts;
  const { hiddenDim: H, nLayers } = parts.config;
  const training = mode === 'train' || mode === 'recompute';
  const tokens = batch * seq;
  const sequence = planSequence(planner, batch, seq, null, packed ? tokens : batch);
  const plan = (block: TransformerBlock, first?: BlockSlots) =>
    block.plan(planner, batch, seq, sequence, first);
  // Blocks that needn't keep anything share one set of slots; without a backward two residual buffers alternate.
  const slots = mode === 'train' ? blocks.map((block) => plan(block)) : forEachKind(blocks, plan);
  const buffers = Array.from({ length: training ? nLayers + 1 : 2 }, () => planner.floats(tokens, H));
  const residual = Array.from({ length: nLayers + 1 }, (_, i) => buffers[i % buffers.length]);
  const ids = planner.ints(tokens);
  const embedded = embedding.plan(planner, tokens);
  const dX = training ? planner.floats(tokens, H) : null;
  const isLoss = end === 'loss';
  const head = isLoss ? null : planHead(parts, planner, residual[nLayers], training);
  const loss = isLoss ? planLoss(parts, planner, tokens, training) : null;
  const scratch =
    dX === null
      ? null
      : forEachKind<BlockScratch>(blocks, (block, first) => block.planBackward(planner, batch, seq, first));
  const ofIds = training ? embedding.planBackward(planner, tokens) : null;
  // The loss is done when the first block's backward begins, so its memory is the same.
  if (loss !== null) planner.include(loss.blocks[0].planner);
  const backward = scratch && { dX: dX!, embedding: ofIds!, blocks: scratch };
  return {
    mode,
    batch,
    seq,
    packed,
    precision: planner.precision,
    tokens,
    sequence,
    embedding: embedded,
    blocks: slots,
    planner,
    ids,
    residual,
    head,
    loss,
    backward,
  };
}

/** @param last [T,H] output of the last block. */
function planHead(
  { config, norm, lmHead }: ModelParts,
  planner: Planner,
  last: MatrixView,
  training: boolean,
): HeadSlots {
  const { rows } = last;
  const normOut = planner.floats(rows, config.hiddenDim);
  const head = { norm: norm.plan(planner, rows, 1), normOut, lmHead: lmHead.plan(planner, rows, 1) };
  // One row by a rounded lm_head would cost the rounding of all of it.
  const single = planner.behind('float32');
  const ofLast = { norm: norm.plan(single, 1, 1), lmHead: lmHead.plan(single, 1, 1) };
  planner.include(single);
  return {
    ...head,
    last: { x: last.slice(rows - 1, 1), normOut: normOut.slice(0, 1), ...ofLast },
    backward: training
      ? { dNorm: planner.floats(rows, config.hiddenDim), lmHead: lmHead.planBackward(planner, rows, 1) }
      : null,
  };
}
