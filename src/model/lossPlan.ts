import type { IndexView, MatrixView } from '../memory/matrixView';
import type { Planner } from '../memory/workspace';
import type { LinearScratch, LinearSlots, RMSNormSlots } from './layers';
import type { ModelParts } from './parts';

/** The memory of a loss over T tokens. */
export interface LossSlots {
  /** [T] target ids */
  targets: IndexView;
  /** [T] the tokens whose targets count; the first `count` are in use */
  counted: IndexView;
  count: number;
  /** Most rows of a block. */
  most: number;
  /** Plans of blocks: the first is that of the largest, which reserves the memory that all share. */
  blocks: LossBlock[];
  start: Planner;
}

/** The final norm and lm_head with their loss, for R of the tokens whose targets count. */
export interface LossBlock {
  /** [R] the tokens' target ids */
  targets: IndexView;
  /** [R,H] the tokens' rows of the last block's output; unused where all tokens count */
  gathered: MatrixView;
  norm: RMSNormSlots;
  /** [R,H] output of the final norm; then, where not all tokens count, the gradient of `gathered` */
  normOut: MatrixView;
  lmHead: LinearSlots;
  /** [R,V] logits, then their gradient in place */
  logits: MatrixView;
  /** [R] cross-entropy of each token */
  losses: MatrixView;
  /** null without a backward; dNorm [R,H] is the gradient of the final norm's output. */
  backward: { dNorm: MatrixView; lmHead: LinearScratch } | null;
  planner: Planner;
}

/** Logits in memory at once: 64 MB of float32, unless they would be fewer than LEAST_ROWS rows. */
const MOST_LOGITS = 2 ** 24;
/** Rows from which on a product by lm_head takes longer than reading it, and adding to its gradient. */
const LEAST_ROWS = 128;
/** The number of plans of blocks that a pass keeps. */
const MAX_BLOCKS = 8;

/** Reserves the loss of T tokens, and of its blocks what only their backward or forward uses. */
export function planLoss(parts: ModelParts, planner: Planner, tokens: number, training: boolean): LossSlots {
  const targets = planner.ints(tokens);
  const counted = planner.ints(tokens);
  const start = planner.behind();
  const rows = Math.floor(MOST_LOGITS / parts.config.vocabSize);
  const most = Math.min(tokens, Math.max(LEAST_ROWS, rows));
  return { targets, counted, count: 0, most, start, blocks: [planBlock(parts, start, most, training)] };
}

/** The plan of a block of `rows` rows, made once while such blocks come often. */
export function blockOf(parts: ModelParts, { blocks, start }: LossSlots, rows: number): LossBlock {
  for (let i = 0; i < blocks.length; i++) if (blocks[i].logits.rows === rows) return blocks[i];
  if (blocks.length === MAX_BLOCKS) blocks.length = 1;
  const block = planBlock(parts, start, rows, blocks[0].backward !== null);
  blocks.push(block);
  return block;
}

function planBlock(
  { config, norm, lmHead }: ModelParts,
  start: Planner,
  rows: number,
  training: boolean,
): LossBlock {
  const { hiddenDim: H, vocabSize: V } = config;
  const planner = start.behind();
  return {
    planner,
    targets: planner.ints(rows),
    gathered: planner.floats(rows, H),
    norm: norm.plan(planner, rows, 1),
    normOut: planner.floats(rows, H),
    lmHead: lmHead.plan(planner, rows, 1),
    logits: planner.floats(rows, V),
    losses: planner.floats(rows),
    backward: training
      ? { dNorm: planner.floats(rows, H), lmHead: lmHead.planBackward(planner, rows, 1) }
      : null,
  };
}
