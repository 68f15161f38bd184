import { SgemoeError } from '../base/errors';
import type { MemoryNeeds } from '../base/requireMemory';
import { crossEntropy } from '../memory/operations/training';
import { type AssembledParts, trainedStore } from './assemble';
import type { RouterLosses } from './moe';
import { copyTokens } from './packing';
import type { ModelPass, PassMode } from './pass';
import type { OnGradients, Passes } from './passes';

/**
 * The checked sequences of a batch that one pass takes: `batch` of `seq` tokens each, from ids[from] and targets[from]
 * on.
 */
export interface LossPart {
  ids: ArrayLike<number>;
  targets: ArrayLike<number>;
  from: number;
  batch: number;
  seq: number;
  /** The place of each token within its sample, as in a `Batch`, where rows hold several samples. */
  positions?: ArrayLike<number> | undefined;
}

/** 'loss' only computes the loss; 'train' and 'recompute' keep what `backward` needs. */
export type LossMode = Exclude<PassMode, 'forward'>;

/** The terms of a part's loss. */
export interface LossTerms extends RouterLosses {
  /** Targets with this value don't count. */
  ignoreIndex: number;
  /** Number of the pass, by which adapters draw their dropout; the same number, the same draws. Default 0. */
  pass?: number | undefined;
  /** Factor of the cross-entropy's gradient: 1 / (number of targets that count in the whole batch). */
  gradScale: number;
}

/** The sums over the parts of a batch. */
export interface LossSums {
  /** Cross-entropy summed over the targets that count, in nats. */
  crossEntropy: number;
  /** weight * alpha * E * sum_e f_e P_e, summed over the layers with experts. */
  auxLoss: number;
  /** weight * coef * mean_t lse_t^2, summed over the layers with experts. */
  zLoss: number;
  /** [nLayers][E]: number of assignments of each expert; empty for a dense layer. */
  load: number[][];
}

/**
 * A model with its loss: the sum of -log softmax(z)_c over the tokens that count, with logits z [V] and target c, plus each
 * router's balance loss and z-loss. A train step is `forward`, `backward`, and the optimizer's update.
 */
export class ModelLoss {
  /** The terms of the last forward that kept activations, followed by the number of that pass. */
  #terms: LossTerms | null = null;
  #entered = 0;

  constructor(
    private readonly parts: AssembledParts,
    private readonly passes: Passes,
  ) {}

  /** Zero sums, to add parts to. */
  noSums(): LossSums {
    const load = this.parts.blocks.map(({ moe }) => new Array<number>(moe?.router.nExperts ?? 0).fill(0));
    return { crossEntropy: 0, auxLoss: 0, zLoss: 0, load };
  }

  /** Bytes that `forward` and `backward` of such a part would allocate. */
  growthBytes(batch: number, seq: number, mode: LossMode): Pick<MemoryNeeds, 'gradients' | 'activations'> {
    const { gradShards, mirrorBytes } = trainedStore(this.parts);
    return {
      gradients: gradShards.length > 0 ? 0 : mirrorBytes,
      activations: this.passes.growthBytes(batch, seq, mode),
    };
  }

  /**
   * Adds a part's losses to `sums`. 'train' and 'recompute' keep the activations for `backward`, and replace the logits by
   * their gradient gradScale (softmax(z) - onehot(c)).
   */
  forward(part: LossPart, terms: LossTerms, mode: LossMode, sums: LossSums): void {
    const { passes } = this;
    const pass = this.#enter(part, mode);
    const { logits, targets, losses } = pass.loss!;
    this.#drop(mode !== 'loss', terms.pass ?? 0);
    passes.hidden(pass);
    const { lmHead, store } = this.parts;
    lmHead.forwardAt(pass.lmHead, pass.normOut, logits, false);
    store.requireUnchanged();
    const gradScale = mode === 'loss' ? null : terms.gradScale;
    const { ignoreIndex } = terms;
    sums.crossEntropy += crossEntropy(store.kernels, logits, targets, losses, ignoreIndex, gradScale);
    this.#addRouters(terms, sums);
    this.#terms = terms;
    this.#entered = passes.entered;
  }

  /**
   * Computes the gradients of the last `forward` and adds them to those of the weights or, with `overwrite`, replaces them.
   * @param onGradients called with each range of gradients once it is final: lm_head and norm, the blocks from last to
   * first, the embedding; each weight once.
   * @throws SgemoeError SGEMOE_NO_FORWARD unless the last forward kept its activations.
   */
  backward(overwrite: boolean, onGradients?: OnGradients): void {
    const pass = this.passes.kept();
    if (this.#terms === null || this.#entered !== this.passes.entered) {
      throw new SgemoeError('SGEMOE_NO_FORWARD', 'backward: the last forward computed only logits, no loss');
    }
    this.passes.backward(pass, this.#terms, overwrite, onGradients);
  }

  /** Makes room for a part and copies its ids and targets in. */
  #enter({ ids, targets, from, batch, seq, positions }: LossPart, mode: LossMode): ModelPass {
    const { passes } = this;
    if (positions === undefined) {
      const pass = passes.enter(batch, seq, mode);
      passes.copyIds(pass.ids, ids, from);
      passes.copyIds(pass.loss!.targets, targets, from);
      return pass;
    }
    const pass = passes.enterPacked(positions, from, batch * seq, mode);
    copyTokens(pass.ids, ids, positions, from);
    copyTokens(pass.loss!.targets, targets, positions, from);
    return pass;
  }

  #drop(isOn: boolean, pass: number): void {
    const { lora } = this.parts;
    if (lora) Object.assign(lora.dropout, { isOn, pass });
  }

  #addRouters({ auxLossAlpha, zLossCoef, weight }: LossTerms, sums: LossSums): void {
    const { blocks } = this.parts;
    for (let i = 0; i < blocks.length; i++) {
      const router = blocks[i].moe?.router;
      if (router === undefined) continue;
      sums.auxLoss += weight * router.computeAuxLoss(auxLossAlpha);
      sums.zLoss += weight * router.computeZLoss(zLossCoef);
      for (let e = 0; e < router.nExperts; e++) sums.load[i][e] += router.counts[e];
    }
  }
}
