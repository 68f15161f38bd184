import { SgemoeError } from '../base/errors';
import type { IndexView, MatrixView } from '../memory/matrixView';
import type { WeightRange } from '../memory/parameters';
import { Workspace } from '../memory/workspace';
import { type AssembledParts, trainedStore } from './assemble';
import { fillSequence } from './attention';
import type { RouterLosses } from './moe';
import { countTokens, fillSamples } from './packing';
import { type ModelPass, type PassMode, PassPlans } from './pass';

/** Called when elements [offset, offset + size) of gradient buffer `shard` are final. */
export type OnGradients = (range: WeightRange) => void;

const NO_ROUTER_LOSSES: RouterLosses = { auxLossAlpha: 0, zLossCoef: 0, weight: 1 };

/**
 * The passes of a model over its workspace: `enter` makes room, the caller copies the ids in, `hidden` computes up to the
 * final norm, `backward` goes from the gradient of the logits to those of all weights.
 */
export class Passes {
  readonly workspace: Workspace;
  /** Number of passes entered so far; it tells the caller whether another pass came in between. */
  entered = 0;
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
  enter(batch: number, seq: number, mode: PassMode): ModelPass {
    const pass = this.#enter(this.#plan(batch, seq, mode));
    fillSequence(pass.sequence);
    return pass;
  }

  /**
   * Prepares the workspace for the samples of some rows and returns the plan of their tokens, without padding. Their lengths
   * are at most maxSeqLen, which the caller has checked. @throws SgemoeError SGEMOE_MEMORY.
   */
  enterPacked(positions: ArrayLike<number>, from: number, count: number, mode: PassMode): ModelPass {
    // Room for rows without padding from the first step on: growing with each fuller batch would overshoot them by half.
    this.workspace.ensure(this.#plans.find(1, count, mode, true).planner);
    const tokens = countTokens(positions, from, count);
    const pass = this.#enter(this.#plans.find(1, tokens, mode, true));
    fillSamples(pass.sequence, positions, from, count);
    return pass;
  }

  #enter(pass: ModelPass): ModelPass {
    this.workspace.ensure(pass.planner);
    this.#kept = null;
    this.entered++;
    if (this.parts.lora) this.parts.lora.dropout.isOn = false;
    return pass;
  }

  /** Plans anew: the layers need other memory, since adapters came or went. */
  forgetPlans(): void {
    this.#plans = new PassPlans(this.parts, this.workspace);
    this.#kept = null;
  }

  /** Bytes that `enter` would allocate. */
  growthBytes(batch: number, seq: number, mode: PassMode): number {
    return this.workspace.growthBytes(this.#plan(batch, seq, mode).planner);
  }

  #plan(batch: number, seq: number, mode: PassMode): ModelPass {
    const { maxSeqLen } = this.parts.config;
    if (seq > maxSeqLen) throw new RangeError(`a sequence of ${seq} tokens exceeds maxSeqLen (${maxSeqLen})`);
    return this.#plans.find(batch, seq, mode, false);
  }

  /** Copies T ids (or targets) from `source[from]` on; the caller has checked them. */
  copyIds({ data, at, rows }: IndexView, source: ArrayLike<number>, from = 0): void {
    for (let t = 0; t < rows; t++) data[at + t] = source[from + t];
  }

  /** Computes embedding and blocks; returns the last block's output [T,H]. */
  blocks(pass: ModelPass): MatrixView {
    const { embedding, blocks } = this.parts;
    const { residual } = pass;
    embedding.forwardAt(pass.ids, residual[0]);
    for (let i = 0; i < blocks.length; i++) {
      blocks[i].forwardAt(pass.blocks[i], residual[i], residual[i + 1]);
    }
    return residual[blocks.length];
  }

  /** Computes embedding, blocks and final norm; the output is pass.normOut. */
  hidden(pass: ModelPass): void {
    this.parts.norm.forwardAt(pass.norm, this.blocks(pass), pass.normOut);
    this.#kept = pass.backward ? pass : null;
  }

  /** The pass that a backward can follow. @throws SgemoeError SGEMOE_NO_FORWARD */
  kept(): ModelPass {
    if (this.#kept !== null) return this.#kept;
    throw new SgemoeError(
      'SGEMOE_NO_FORWARD',
      'backward: the last forward kept no activations; call forward with { training: true } just before',
    );
  }

  /**
   * Computes every weight's gradient from the gradient in pass.loss.logits, and adds to the old one or overwrites it. The
   * routers add the gradients of `losses`. The activations are used up.
   */
  backward(pass: ModelPass, losses: RouterLosses, overwrite: boolean, onGradients?: OnGradients): void {
    const { store, routerLosses } = this.parts;
    setRouterLosses(routerLosses, losses);
    const trained = trainedStore(this.parts);
    store.ensureGradients();
    trained.ensureGradients();
    trained.gradBeta = overwrite ? 0 : 1;
    try {
      this.#backward(pass, onGradients);
    } finally {
      trained.gradBeta = 1;
      setRouterLosses(routerLosses, NO_ROUTER_LOSSES);
      this.#kept = null;
    }
  }

  #backward(pass: ModelPass, onGradients?: OnGradients): void {
    const { embedding, blocks, norm, lmHead, owned, lora } = this.parts;
    const { dX, dNorm, blocks: scratch } = pass.backward!;
    const { residual, mode } = pass;
    const last = blocks.length - 1;
    const first = this.#firstTrained();
    lmHead.backwardAt(pass.lmHead, pass.backward!.lmHead, pass.normOut, pass.loss!.logits, dNorm, false);
    norm.backwardAt(pass.norm, undefined, residual[last + 1], dNorm, dX, false);
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
    if (first === 0) embedding.backwardAt(pass.ids, dX);
    if (onGradients) this.#announce(owned.embedding, onGradients);
    if (onGradients && lora) lora.store.rangesOf(0, lora.store.weightCount).forEach(onGradients);
  }

  /** Index of the lowest block that a backward has to reach: gradients below it are of weights that stay as they are. */
  #firstTrained(): number {
    const { store, blocks, owned, embedding, lora } = this.parts;
    if (lora) return lora.firstBlock;
    // A tied table's own gradient needs the whole way down.
    if (embedding.isTrained) return 0;
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
