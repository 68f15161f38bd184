import type { MatrixView } from '../memory/matrixView';
import type { RoutingViews } from '../memory/operations/mixture';
import { copy } from '../memory/operations/rows';
import type { Planner } from '../memory/workspace';
import {
  type AttentionDims,
  type AttentionScratch,
  type AttentionSlots,
  MQAttention,
  type RopeTable,
  type SequenceSlots,
} from './attention';
import type { ExpertDivision } from './expertLayout';
import { Layer, type LayerOptions } from './layer';
import { RMSNorm, type RMSNormSlots, SwiGLU, type SwiGLUScratch, type SwiGLUSlots } from './layers';
import {
  MIXTURE_PREFIX,
  type MoEDims,
  MoELayer,
  type MoEScratch,
  type MoESlots,
  type RouterLosses,
} from './moe';
import type { Projection } from './projection';

export interface BlockSlots {
  norm1: RMSNormSlots;
  /** [T,H] input of the attention */
  norm1Out: MatrixView;
  attention: AttentionSlots;
  /** [T,H] x + attention */
  h: MatrixView;
  norm2: RMSNormSlots;
  /** [T,H] input of the feed-forward */
  norm2Out: MatrixView;
  feedForward: MoESlots | SwiGLUSlots;
  /** The mixture's part of `feedForward` that tells which experts were chosen; null in a dense block. */
  routing: RoutingViews | null;
}

export interface BlockScratch {
  attention: AttentionScratch;
  feedForward: MoEScratch | SwiGLUScratch;
  /** [T,H] gradient of a norm's output */
  dNorm: MatrixView;
}

/** A mixture of experts, or the single SwiGLU of a dense block. */
type FeedForward = Layer<MoESlots | SwiGLUSlots, MoEScratch | SwiGLUScratch>;

/** The sizes of a block; those of the mixture don't count in a dense one. */
export type BlockDims = AttentionDims &
  MoEDims & {
    rmsNormEps?: number | undefined;
    /** Inner width of the one SwiGLU of a dense block; 0 means a mixture of experts. Default 0. */
    denseFfnDim?: number | undefined;
  };

/**
 * h = x + Attention(RMSNorm(x)); y = h + FeedForward(RMSNorm(h)), where FeedForward is a mixture of experts or, in a dense
 * block, one SwiGLU. The backward runs in reverse order, with the gradient of the residual stream in place:
 * dh = dy + RMSNorm'(FeedForward'(dy)), dx = dh + RMSNorm'(Attention'(dh)).
 */
export class TransformerBlock extends Layer<BlockSlots, BlockScratch> {
  readonly norm1: RMSNorm;
  readonly attention: MQAttention;
  readonly norm2: RMSNorm;
  /** The mixture of experts; null in a dense block. */
  readonly moe: MoELayer | null;
  readonly feedForward: FeedForward;

  constructor(
    readonly dims: BlockDims,
    options: LayerOptions & {
      rope?: RopeTable | undefined;
      losses?: RouterLosses | undefined;
      exchange?: ExpertDivision | null | undefined;
    } = {},
  ) {
    super(dims?.hiddenDim, dims?.hiddenDim, options, ['rope', 'losses', 'exchange']);
    const prefix = options.prefix ?? '';
    const { store } = this;
    const eps = dims.rmsNormEps;
    this.norm1 = new RMSNorm(dims.hiddenDim, { store, prefix: `${prefix}input_layernorm.`, eps });
    this.attention = new MQAttention(dims, { store, prefix: `${prefix}self_attn.`, rope: options.rope });
    this.norm2 = new RMSNorm(dims.hiddenDim, { store, prefix: `${prefix}post_attention_layernorm.`, eps });
    const { denseFfnDim = 0, residualMultiplier: scale } = dims;
    const { losses, exchange } = options;
    this.moe =
      denseFfnDim === 0
        ? new MoELayer(dims, { store, prefix: `${prefix}${MIXTURE_PREFIX}`, losses, exchange })
        : null;
    this.feedForward =
      this.moe ?? new SwiGLU(dims.hiddenDim, denseFfnDim, { store, prefix: `${prefix}mlp.`, scale });
    this.built();
  }

  override get projections(): readonly Projection[] {
    return [...this.attention.projections, ...this.feedForward.projections];
  }

  /**
   * @param sequence positions shared with other blocks. Default: this plans them.
   * @param shared slots of another block of the model that this one may overwrite: only what differs is planned anew.
   */
  plan(
    planner: Planner,
    batch: number,
    seq: number,
    sequence?: SequenceSlots,
    shared?: BlockSlots,
  ): BlockSlots {
    const tokens = batch * seq;
    const others = shared ?? {
      norm1: this.norm1.plan(planner, batch, seq),
      norm1Out: planner.floats(tokens, this.inDim),
      attention: this.attention.plan(planner, batch, seq, sequence),
      h: planner.floats(tokens, this.inDim),
      norm2: this.norm2.plan(planner, batch, seq),
      norm2Out: planner.floats(tokens, this.inDim),
    };
    const feedForward = this.feedForward.plan(planner, batch, seq);
    return { ...others, feedForward, routing: this.moe && (feedForward as MoESlots).router };
  }

  /** @param shared scratch of another block of the model, as for `plan`. */
  planBackward(planner: Planner, batch: number, seq: number, shared?: BlockScratch): BlockScratch {
    return {
      attention: shared?.attention ?? this.attention.planBackward(planner, batch, seq),
      feedForward: this.feedForward.planBackward(planner, batch, seq),
      dNorm: shared?.dNorm ?? planner.floats(batch * seq, this.inDim),
    };
  }

  override prepare(s: BlockSlots): void {
    this.attention.prepare(s.attention);
  }

  /** Always writes y, which must not overlap x. */
  forwardAt(s: BlockSlots, x: MatrixView, y: MatrixView): void {
    this.norm1.forwardAt(s.norm1, x, s.norm1Out);
    copy(x, s.h);
    this.attention.forwardAt(s.attention, s.norm1Out, s.h, true);
    this.norm2.forwardAt(s.norm2, s.h, s.norm2Out);
    copy(s.h, y);
    this.feedForward.forwardAt(s.feedForward, s.norm2Out, y, true);
  }

  /** Always writes dx, which may be dy; the gradient of the residual stream then stays in place. */
  backwardAt(
    s: BlockSlots,
    { attention, feedForward, dNorm }: BlockScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
  ): void {
    if (dx !== dy) copy(dy, dx);
    this.feedForward.backwardAt(s.feedForward, feedForward, s.norm2Out, dx, dNorm, false);
    this.norm2.backwardAt(s.norm2, undefined, s.h, dNorm, dx, true);
    this.attention.backwardAt(s.attention, attention, s.norm1Out, dx, dNorm, false);
    this.norm1.backwardAt(s.norm1, undefined, x, dNorm, dx, true);
  }
}

/**
 * Plans something for each block of a model where blocks may overwrite each other's: one for all mixtures and one for all
 * dense blocks. `plan` gets the first that was made, from which the second takes what both kinds have.
 */
export function forEachKind<T>(
  blocks: readonly TransformerBlock[],
  plan: (block: TransformerBlock, first: T | undefined) => T,
): T[] {
  const byKind = new Map<boolean, T>();
  return blocks.map((block) => {
    const isDense = block.moe === null;
    const made = byKind.get(isDense) ?? plan(block, byKind.get(!isDense));
    byKind.set(isDense, made);
    return made;
  });
}
