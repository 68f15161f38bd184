import { SgemoeError } from '../base/errors';
import type { Precision } from '../base/precision';
import type { IndexView, MatrixView } from '../memory/matrixView';
import type { WeightRange } from '../memory/parameters';
import { Workspace } from '../memory/workspace';
import { type AssembledParts, trainedStore } from './assemble';
import { fillSequence } from './attention';
import type { RouterLosses } from './moe';
import { countTokens, fillSamples } from './packing';
import { type ModelPass, type PassEnd, type PassMode, PassPlans } from './pass';

/** Called when elements [offset, offset + size) of gradient buffer `shard` are final. */
export type OnGradients = (range: WeightRange) => void;

const NO_ROUTER_LOSSES: RouterLosses = { auxLossAlpha: 0, zLossCoef: 0, weight: 1 };

/**
 * The passes of a model over its workspace: `enter` makes room, the caller copies the ids in, `blocks` computes up to the
 * last block, the caller what follows; `backward` goes from the gradient that the caller computes there to those of all
 * weights.
 */
export class Passes {
  readonly workspace: Workspace;
  /** The pass whose activations the workspace holds for a backward. */
  #kept: ModelPass | null = null;
  #plans: PassPlans;

  constructor(private readonly parts: AssembledParts) {
    this.workspace = new Workspace(parts.store.kernels);
    this.#plans = new PassPlans(parts, this.workspace);
  }

  /**
   * Prepares the workspace for a shape and returns its plan. The activations of an earlier pass are lost.
   * @throws RangeError for a sequence longer than maxSeqLen; SgemoeError SGEMOE_MEMORY.
   */
  enter(batch: number, seq: number, mode: PassMode, end: PassEnd, precision?: Precision): ModelPass {
    const pass = this.#enter(this.#plan(batch, seq, mode, end, precision));
    fillSequence(pass.sequence);
    return pass;
  }

  /**
   * Prepares the workspace for the loss of the samples of some rows and returns the plan of their tokens, without padding. Their lengths
   * are at most maxSeqLen, which the caller has checked. @throws SgemoeError SGEMOE_MEMORY.
   */
  enterPacked(
    positions: ArrayLike<number>,
    from: number,
    count: number,
    mode: PassMode,
    precision?: Precision,
  ): ModelPass {
    // Room for rows without padding from the first step on: growing with each fuller batch would overshoot them by half.
    this.workspace.ensure(this.#plans.find(1, count, mode, 'loss', true, precision).planner);
    const tokens = countTokens(positions, from, count);
    const pass = this.#enter(this.#plans.find(1, tokens, mode, 'loss', true, precision));
    fillSamples(pass.sequence, positions, from, count);
    return pass;
  }

  #enter(pass: ModelPass): ModelPass {
    this.workspace.ensure(pass.planner);
    this.#kept = null;
    if (this.parts.lora) this.parts.lora.dropout.isOn = false;
    return pass;
  }

  /** Plans anew: the layers need other memory, since adapters came or went. */
  forgetPlans(): void {
    this.#plans = new PassPlans(this.parts, this.workspace);
    this.#kept = null;
  }

  /** Bytes that `enter` would allocate. */
  growthBytes(batch: number, seq: number, mode: PassMode, end: PassEnd): number {
    return this.workspace.growthBytes(this.#plan(batch, seq, mode, end).planner);
  }

  #plan(batch: number, seq: number, mode: PassMode, end: PassEnd, precision?: Precision): ModelPass {
    const { maxSeqLen } = this.parts.config;
    if (seq > maxSeqLen) throw new RangeError(`a sequence of ${seq} tokens exceeds maxSeqLen (${maxSeqLen})`);
    return this.#plans.find(batch, seq, mode, end, false, precision);
  }

  /** Copies T ids (or targets) from `source[from]` on; the caller has checked them. */
  copyIds({ data, at, rows }: IndexView, source: ArrayLike<number>, from = 0): void {
    for (let t = 0; t < rows; t++) data[at + t] = source[from + t];
  }

  /** Computes embedding and blocks, and keeps what a backward needs; returns the last block's output [T,H]. */
  blocks(pass: ModelPass): MatrixView {
    const { embedding, blocks } = this.parts;
    const { residual } = pass;
    embedding.forwardAt(pass.embedding, pass.ids, residual[0]);
    for (let i = 0; i < blocks.length; i++) {
      blocks[i].forwardAt(pass.blocks[i], residual[i], residual[i + 1]);
    }
    this.#kept = pass.backward ? pass : null;
    return residual[blocks.length];
  }

  /** Computes embedding, blocks and final norm; returns the norm's output [T,H]. */
  hidden(pass: ModelPass): MatrixView {
    const { norm, normOut } = pass.head!;
    this.parts.norm.forwardAt(norm, this.blocks(pass), normOut);
    return normOut;
  }

  /** The pass that a backward can follow, of one that ends so. @throws SgemoeError SGEMOE_NO_FORWARD */
  kept(end: PassEnd): ModelPass {
    const kept = this.#kept;
    if (kept !== null && (kept.loss !== null) === (end === 'loss')) return kept;
    throw new SgemoeError(
      'SGEMOE_NO_FORWARD',
      'backward: the last forward kept no activations; call forward with { training: true } just before',
    );
  }

  /**
   * Computes every weight's gradient, and adds to the old one or overwrites it: `head` those of norm and lm_head, with that of
   * the last block's output in pass.backward.dX. The routers add the gradients of `losses`. The activations are used up.
   */
  backward(
    pass: ModelPass,
    losses: RouterLosses,
    overwrite: boolean,
    head: (pass: ModelPass) => void,
    onGradients?: OnGradients,
  ): void {
    const { store, routerLosses } = this.parts;
    setRouterLosses(routerLosses, losses);
    const trained = trainedStore(this.parts);
    store.ensureGradients();
    trained.ensureGradients();
    trained.gradBeta = overwrite ? 0 : 1;
    try {
      head(pass);
      this.#backward(pass, onGradients);
    } finally {
      trained.gradBeta = 1;
      setRouterLosses(routerLosses, NO_ROUTER_LOSSES);
      this.#kept = null;
    }
  }

  /** The backward of all logits [T,V]: the gradients of lm_head, norm and the last block's output. */
  logitsBackward({ head, residual, backward }: ModelPass, dLogits: MatrixView): void {
    const { norm, lmHead } = this.parts;
    const { dNorm, lmHead: scratch } = head!.backward!;
    lmHead.backwardAt(head!.lmHead, scratch, head!.normOut, dLogits, dNorm, false);
    norm.backwardAt(head!.norm, undefined, residual[residual.length - 1], dNorm, backward!.dX, false);
  }

  #backward(pass: ModelPass, onGradients?: OnGradients): void {
    const { embedding, blocks, owned, lora } = this.parts;
    const { dX, embedding: scratchOfIds, blocks: scratch } = pass.backward!;
    const { residual, mode } = pass;
    const last = blocks.length - 1;
    const first = this.#firstTrained();
    if (onGradients) this.#announce(owned.head, onGradients);
    for (let i = last; i >= first; i--) {
      // The slots that all blocks share still hold the values of the last block.
      if (mode === 'recompute' && i < last) {
        blocks[i].forwardAt(pass.blocks[i], residual[i], residual[i + 1]);
      }
      blocks[i].backwardAt(pass.blocks[i], scratch[i], residual[i], dX, dX);
      if (onGradients) this.#announce(owned.blocks[i], onGradients);
    }
    // The gradient of a tied table is complete only here.
    if (first === 0) embedding.backwardAt(pass.embedding, scratchOfIds, pass.ids, dX);
    if (onGradients) this.#announce(owned.embedding, onGradients);
    if (onGradients && lora) lora.store.rangesOf(0, lora.store.weightCount).forEach(onGradients);
  }

  /** Index of the lowest block that a backward has to reach: gradients below it are of weights that stay as they are. */
  #firstTrained(): number {
    const { store, blocks, owned, embedding, lora } = this.parts;
    if (lora) return lora.firstBlock;
    // A tied table's own gradient needs the whole way down; so may experts of other ranks, with which each rank has to go.
    if (embedding.isTrained || store.isPart) return 0;
    const found = owned.blocks.findIndex(([first, end]) => store.trains(first, end));
    return found < 0 ? blocks.length : found;
  }

  #announce([first, end]: readonly [number, number], onGradients: OnGradients): void {
    this.parts.store.rangesOf(first, end).forEach(onGradients);
  }
}

function setRouterLosses(losses: RouterLosses, { auxLossAlpha, zLossCoef, weight }: RouterLosses): void {
  losses.auxLossAlpha = auxLossAlpha;
  losses.zLossCoef = zLossCoef;
  losses.weight = weight;
}
