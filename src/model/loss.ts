import type { Precision } from '../base/precision';
import type { MemoryNeeds } from '../base/requireMemory';
import { crossEntropy } from '../memory/operations/training';
import { type AssembledParts, trainedStore } from './assemble';
import { LossHead } from './lossHead';
import type { LossBlock } from './lossPlan';
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
  /** Precision of the products. Default 'float32'. */
  precision?: Precision | undefined;
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
  /** Cross-entropy of each sample, summed over its targets that count; absent where nobody asks. Needs positions. */
  samples?: number[] | undefined;
}

/**
 * A model with its loss: the sum of -log softmax(z)_c over the tokens that count, with logits z [V] and target c, plus each
 * router's balance loss and z-loss. A train step is `forward`, `backward`, and the optimizer's update.
 */
export class ModelLoss {
  /** The terms and sums of the last forward that kept activations. */
  #terms: LossTerms | null = null;
  #sums: LossSums | null = null;
  readonly #head: LossHead;

  constructor(
    private readonly parts: AssembledParts,
    private readonly passes: Passes,
  ) {
    this.#head = new LossHead(parts);
  }

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
      activations: this.passes.growthBytes(batch, seq, mode, 'loss'),
    };
  }

  /**
   * Adds a part's losses to `sums`. 'train' and 'recompute' keep the activations for `backward`, which computes the
   * cross-entropy together with its gradient and adds it then, unless the samples' losses are asked for.
   */
  forward(part: LossPart, terms: LossTerms, mode: LossMode, sums: LossSums): void {
    const { passes } = this;
    const pass = this.#enter(part, mode, terms.precision);
    this.#drop(mode !== 'loss', terms.pass ?? 0);
    this.#head.list(pass, terms.ignoreIndex);
    passes.blocks(pass);
    this.#addRouters(terms, sums);
    this.#terms = terms;
    this.#sums = sums;
    if (sums.samples !== undefined) sums.crossEntropy += this.#sampleLosses(pass, sums.samples);
    else if (mode === 'loss') {
      sums.crossEntropy += this.#head.forward(pass, (block) => this.#crossEntropy(block, null));
    }
  }

  /** Appends the loss of each sample of a pass, and returns the sum. */
  #sampleLosses(pass: ModelPass, losses: number[]): number {
    const samples = new Samples(pass);
    const before = losses.length;
    const sum = this.#head.forward(pass, (block, first) => {
      const loss = this.#crossEntropy(block, null);
      for (let i = 0; i < block.losses.rows; i++) {
        const index = before + samples.of(first + i);
        while (losses.length <= index) losses.push(0);
        losses[index] += block.losses.data[block.losses.at + i];
      }
      return loss;
    });
    while (losses.length < before + samples.count) losses.push(0);
    return sum;
  }

  /**
   * Computes the gradients of the last `forward` and adds them to those of the weights or, with `overwrite`, replaces them.
   * The logits' is gradScale (softmax(z) - onehot(c)).
   * @param sampleScales a gradScale for each sample of a part whose samples' losses were asked for.
   * @param onGradients called with each range of gradients once it is final: lm_head and norm, the blocks from last to
   * first, the embedding; each weight once.
   * @throws SgemoeError SGEMOE_NO_FORWARD unless the last forward kept its activations.
   */
  backward(overwrite: boolean, onGradients?: OnGradients, sampleScales?: ArrayLike<number>): void {
    const pass = this.passes.kept('loss');
    const terms = this.#terms!;
    const head = () => {
      if (sampleScales) this.#sampleGradients(pass, sampleScales);
      else {
        const { gradScale } = terms;
        this.#sums!.crossEntropy += this.#head.backward(pass, (block) =>
          this.#crossEntropy(block, gradScale),
        );
      }
    };
    this.passes.backward(pass, terms, overwrite, head, onGradients);
  }

  #sampleGradients(pass: ModelPass, scales: ArrayLike<number>): void {
    const samples = new Samples(pass);
    this.#head.backward(pass, ({ logits, targets, losses }, first) => {
      for (let from = 0, to = 1; from < logits.rows; from = to++) {
        const sample = samples.of(first + from);
        while (to < logits.rows && samples.of(first + to) === sample) to++;
        const rows = to - from;
        const part = { logits: logits.slice(from, rows), targets: targets.slice(from, rows) };
        this.#crossEntropy({ ...part, losses: losses.slice(from, rows) }, scales[sample]);
      }
      return 0;
    });
  }

  #crossEntropy(
    { logits, targets, losses }: Pick<LossBlock, 'logits' | 'targets' | 'losses'>,
    gradScale: number | null,
  ): number {
    const { ignoreIndex } = this.#terms!;
    return crossEntropy(this.parts.store.kernels, logits, targets, losses, ignoreIndex, gradScale);
  }

  /** Makes room for a part and copies its ids and targets in. */
  #enter(
    { ids, targets, from, batch, seq, positions }: LossPart,
    mode: LossMode,
    precision: Precision | undefined,
  ): ModelPass {
    const { passes } = this;
    if (positions === undefined) {
      const pass = passes.enter(batch, seq, mode, 'loss', precision);
      passes.copyIds(pass.ids, ids, from);
      passes.copyIds(pass.loss!.targets, targets, from);
      return pass;
    }
    const pass = passes.enterPacked(positions, from, batch * seq, mode, precision);
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

/** The samples of a packed pass, by their tokens. Questions come in the order of the tokens. */
class Samples {
  #token = -1;
  #sample = -1;

  constructor(private readonly pass: ModelPass) {}

  /** The index of the sample of a counted token. */
  of(counted: number): number {
    const { data, at } = this.pass.loss!.counted;
    return this.#at(data[at + counted]);
  }

  get count(): number {
    return this.#at(this.pass.tokens - 1) + 1;
  }

  #at(token: number): number {
    const { data, at } = this.pass.sequence.positions;
    while (this.#token < token) if (data[at + ++this.#token] === 0) this.#sample++;
    return this.#sample;
  }
}
