import { setImmediate } from 'node:timers/promises';
import { checkIds } from './layers';
import { idsOf, type ModelPass, type MoETransformer } from './model';
import type { ParameterStore } from './parameters';
import { Tensor } from './tensor';

export interface TrainConfig {
  /** Peak learning rate. Default 1e-4. */
  lr: number;
  /** Decay of the first moment. Default 0.9. */
  beta1: number;
  /** Decay of the second moment. Default 0.95. */
  beta2: number;
  /** Added to the root of the second moment. Default 1e-8. */
  eps: number;
  /** Decoupled weight decay, applied to every parameter. Default 0.1. */
  weightDecay: number;
  /** Largest global gradient norm; Infinity switches clipping off. Default 1. */
  gradClip: number;
  /** Steps of linear warmup. Default 1000. */
  warmupSteps: number;
  /** Step at which the cosine has come down to 10 % of lr. Default 100000. */
  totalSteps: number;
  /** Weight of the load-balancing loss. Default: the model config's routerAuxLossCoef. */
  auxLossAlpha: number;
  /** Weight of the router z-loss, the mean squared log-sum-exp of the router logits. Default 0: off. */
  zLossCoef: number;
  /**
   * Micro-batches a step: a batch of B sequences goes through the model in so many parts, one after the other, and
   * needs the memory of one. The cross-entropy gradient equals the big batch's; the balance and z-loss are taken in
   * each part and weighted by its tokens, which is not the big batch's (f and P are means of the part). Default 1.
   */
  gradAccumulationSteps: number;
  /** Target that is neither learnt nor counted, such as the tokens of a prompt. Default -100. */
  ignoreIndex: number;
}

const DEFAULTS: Omit<TrainConfig, 'auxLossAlpha'> = {
  lr: 1e-4,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
  weightDecay: 0.1,
  gradClip: 1,
  warmupSteps: 1000,
  totalSteps: 100_000,
  zLossCoef: 0,
  gradAccumulationSteps: 1,
  ignoreIndex: -100,
};

/** Token ids and what follows each, both [batch * seqLen] in row-major order. */
export interface Batch {
  ids: Int32Array;
  targets: Int32Array;
  batch: number;
  seqLen: number;
}

export interface LossResult {
  /** crossEntropy + auxLoss + zLoss. */
  loss: number;
  /** Mean over the tokens that count, in nats. */
  crossEntropy: number;
  /** Sum over the layers of alpha * E * sum_e f_e P_e. */
  auxLoss: number;
  /** Sum over the layers of the z-loss; 0 when it is off. */
  zLoss: number;
  /** L2 norm of all gradients, before clipping. */
  gradNorm: number;
  /** Tokens in the batch. */
  tokens: number;
  /** For each layer the share of the assignments that each expert received; a layer's shares add up to 1. */
  expertLoad: number[][];
}

export interface StepResult extends LossResult {
  /** Number of this step, from 1. A skipped step keeps the number for the next one. */
  step: number;
  /** Learning rate of this step. */
  lr: number;
  /** The loss or the gradient was not finite: weights and optimizer are as before. */
  skipped: boolean;
}

export interface EvalResult {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  /** e^loss */
  perplexity: number;
  /** loss / ln 2 * tokens / bytes */
  bitsPerByte: number;
  /** Tokens that counted. */
  tokens: number;
}

export interface RunOptions {
  /** Batches, one a step; the run ends with them. */
  data: Iterable<Batch> | AsyncIterable<Batch>;
  /** Steps to make. Default: up to totalSteps. */
  steps?: number;
  /** Stops the run between two steps. */
  signal?: AbortSignal;
  /** What an abort does: throw the signal's reason, or end the iteration. Default 'throw'. */
  onAbort?: 'throw' | 'return';
}

/**
 * Trains a model: cross-entropy + balance loss, hand-derived gradients, global-norm clipping, AdamW, linear warmup
 * then cosine. Gradients stay in `param.grad` after a step, unclipped: the clip factor is applied inside the update.
 */
export class Trainer {
  readonly model: MoETransformer;
  readonly config: Readonly<TrainConfig>;
  /** Updates made so far. */
  step = 0;
  /** Steps skipped for a loss or gradient that was not finite. */
  skippedSteps = 0;
  #m: Float32Array[] = [];
  #v: Float32Array[] = [];

  /**
   * @throws TypeError for an unknown or non-numeric option, RangeError for one out of range.
   */
  constructor(model: MoETransformer, config: Partial<TrainConfig> = {}) {
    this.model = model;
    const defaults = { ...DEFAULTS, auxLossAlpha: model.config.routerAuxLossCoef };
    this.config = Object.freeze(checkConfig(defaults, config));
  }

  /**
   * Learning rate of step t, from 1: lr * t / warmupSteps up to warmupSteps, then
   * lr * (0.1 + 0.9 * (1 + cos(pi * (t - warmupSteps) / (totalSteps - warmupSteps))) / 2), 0.1 lr from totalSteps on.
   * @param step default: the step that comes next.
   */
  getLr(step: number = this.step + 1): number {
    const { lr, warmupSteps, totalSteps } = this.config;
    if (step <= warmupSteps && warmupSteps > 0) return (lr * step) / warmupSteps;
    if (step >= totalSteps) return lr * 0.1;
    const progress = (step - warmupSteps) / (totalSteps - warmupSteps);
    return lr * (0.1 + 0.45 * (1 + Math.cos(Math.PI * progress)));
  }

  /**
   * Losses of a batch and, in `param.grad`, their gradients, without clipping or update.
   * ids, targets: int32 or int64 tensors [B,S]; targets[b,s] is what follows ids[b,s].
   * @throws RangeError for shapes that differ, ids out of range, a batch without a target that counts.
   */
  lossAndGradients(ids: Tensor, targets: Tensor): LossResult {
    checkPair(ids, targets);
    const [batch, seqLen] = ids.shape;
    return this.#lossAndGradients(idsOf(ids), idsOf(targets), batch, seqLen);
  }

  /** One step: losses, gradients, clipping, AdamW. Arguments and errors as `lossAndGradients`. */
  trainStep(ids: Tensor, targets: Tensor): StepResult {
    checkPair(ids, targets);
    const [batch, seqLen] = ids.shape;
    return this.#trainStep(idsOf(ids), idsOf(targets), batch, seqLen);
  }

  /**
   * Trains on `data`, a step at a time, giving signals and timers their turn in between:
   * `for await (const step of trainer.run({ data, signal })) ...`. Leaving the loop ends the run.
   */
  async *run(options: RunOptions): AsyncGenerator<StepResult, void, void> {
    const { data, signal, onAbort = 'throw' } = options;
    const last = this.step + this.skippedSteps + (options.steps ?? this.config.totalSteps - this.step);
    if (this.step + this.skippedSteps >= last) return;
    for await (const { ids, targets, batch, seqLen } of data) {
      await setImmediate();
      if (signal?.aborted) {
        if (onAbort === 'throw') throw signal.reason;
        return;
      }
      yield this.#trainStep(ids, targets, batch, seqLen);
      if (this.step + this.skippedSteps >= last) return;
    }
  }

  #trainStep(ids: ArrayLike<number>, targets: ArrayLike<number>, batch: number, seqLen: number): StepResult {
    const result = this.#lossAndGradients(ids, targets, batch, seqLen);
    const step = this.step + 1;
    const lr = this.getLr(step);
    const skipped = !(Number.isFinite(result.loss) && Number.isFinite(result.gradNorm));
    if (skipped) this.skippedSteps++;
    else this.#update(step, lr, result.gradNorm);
    return { ...result, step, lr, skipped };
  }

  #lossAndGradients(
    ids: ArrayLike<number>,
    targets: ArrayLike<number>,
    batch: number,
    seqLen: number,
  ): LossResult {
    const { model, config } = this;
    const parts = config.gradAccumulationSteps;
    if (parts > batch) {
      throw new RangeError(
        `gradAccumulationSteps (${parts}) must not exceed the batch's sequences (${batch})`,
      );
    }
    checkIds('ids', ids, model.vocabSize);
    const counted = checkTargets(targets, model.vocabSize, config.ignoreIndex);
    if (counted === 0) throw new RangeError('the batch has no target that counts');
    const tokens = batch * seqLen;
    const sums: LossSums = { crossEntropy: 0, auxLoss: 0, zLoss: 0, load: [] };
    for (const { nExperts } of model.blocks.map((block) => block.moe.router)) {
      sums.load.push(new Array(nExperts).fill(0));
    }
    for (let part = 0; part < parts; part++) {
      const first = Math.floor((part * batch) / parts);
      const rows = Math.floor(((part + 1) * batch) / parts) - first;
      const pass = model.enter(rows, seqLen, 'train');
      if (part === 0) model.zeroGradients();
      model.copyIds(pass, pass.ids, ids, first * seqLen);
      model.copyIds(pass, pass.loss!.targets, targets, first * seqLen);
      this.#forwardBackward(pass, counted, pass.tokens / tokens, sums);
    }
    const crossEntropy = sums.crossEntropy / counted;
    return {
      loss: crossEntropy + sums.auxLoss + sums.zLoss,
      crossEntropy,
      auxLoss: sums.auxLoss,
      zLoss: sums.zLoss,
      gradNorm: model.store.gradNorm(),
      tokens,
      expertLoad: sums.load.map(shares),
    };
  }

  /** One micro-batch, whose ids and targets are set; adds to the gradients and to `sums`. */
  #forwardBackward(pass: ModelPass, counted: number, weight: number, sums: LossSums): void {
    const { model, config } = this;
    const { auxLossAlpha, zLossCoef } = config;
    const { workspace: ws } = model;
    const { logits, targets, losses } = pass.loss!;
    model.hiddenAt(pass);
    model.lmHead.forwardAt(ws, pass.lmHead, pass.normOut, logits, false);
    sums.crossEntropy += model.kernels.crossEntropy(
      ws.floats,
      logits,
      ws.ints,
      targets,
      ws.floats,
      losses,
      pass.tokens,
      model.vocabSize,
      config.ignoreIndex,
      1 / counted,
      true,
    );
    for (let i = 0; i < model.blocks.length; i++) {
      const { router } = model.blocks[i].moe;
      sums.auxLoss += weight * router.computeAuxLoss(auxLossAlpha);
      sums.zLoss += weight * router.zLossAt(ws, pass.blocks[i].moe.router, zLossCoef);
      for (let e = 0; e < router.nExperts; e++) sums.load[i][e] += router.counts[e];
    }
    Object.assign(model.routerLosses, { auxLossAlpha, zLossCoef, weight });
    model.backwardAt(pass);
  }

  #update(step: number, lr: number, gradNorm: number): void {
    const { store, kernels } = this.model;
    const { beta1, beta2, eps, weightDecay, gradClip } = this.config;
    if (this.#m.length === 0) {
      this.#m = store.mirror();
      this.#v = store.mirror();
    }
    const gradScale = gradNorm > gradClip ? gradClip / gradNorm : 1;
    const correction1 = 1 - beta1 ** step;
    const correction2 = 1 - beta2 ** step;
    for (let i = 0; i < store.shards.length; i++) {
      const param = store.shards[i];
      kernels.adamw(
        param,
        0,
        store.gradShards[i],
        0,
        this.#m[i],
        0,
        this.#v[i],
        0,
        param.length,
        lr,
        beta1,
        beta2,
        eps,
        weightDecay,
        correction1,
        correction2,
        gradScale,
      );
    }
    this.step = step;
  }
}

/**
 * Mean cross-entropy of a model over batches, without gradients.
 * @param options.bytesPerToken mean bytes of a token, for bitsPerByte. Default 1, right for bytes.
 * @throws RangeError when no target counts.
 */
export function evaluate(
  model: MoETransformer,
  batches: Iterable<Batch>,
  options: { bytesPerToken?: number; ignoreIndex?: number } = {},
): EvalResult {
  const { bytesPerToken = 1, ignoreIndex = DEFAULTS.ignoreIndex } = options;
  const { workspace: ws, kernels, vocabSize } = model;
  let sum = 0;
  let counted = 0;
  for (const { ids, targets, batch, seqLen } of batches) {
    checkIds('ids', ids, vocabSize);
    counted += checkTargets(targets, vocabSize, ignoreIndex);
    const pass = model.enter(batch, seqLen, 'loss');
    const at = pass.loss!;
    model.copyIds(pass, pass.ids, ids);
    model.copyIds(pass, at.targets, targets);
    model.hiddenAt(pass);
    model.lmHead.forwardAt(ws, pass.lmHead, pass.normOut, at.logits, false);
    sum += kernels.crossEntropy(
      ws.floats,
      at.logits,
      ws.ints,
      at.targets,
      ws.floats,
      at.losses,
      pass.tokens,
      vocabSize,
      ignoreIndex,
      1,
      false,
    );
  }
  if (counted === 0) throw new RangeError('evaluate: the batches hold no target that counts');
  const loss = sum / counted;
  const bitsPerByte = loss / Math.LN2 / bytesPerToken;
  return { loss, perplexity: Math.exp(loss), bitsPerByte, tokens: counted };
}

/**
 * Scales all gradients by maxNorm / norm when their global L2 norm exceeds maxNorm (Pascanu et al. 2013, alg. 1).
 * Returns the norm before. The Trainer does the same inside its update.
 * @throws RangeError unless maxNorm > 0.
 */
export function clipGradByGlobalNorm(model: { store: ParameterStore }, maxNorm: number): number {
  if (!(maxNorm > 0)) throw new RangeError(`clipGradByGlobalNorm: maxNorm must be > 0, got ${maxNorm}`);
  const { store } = model;
  const norm = store.gradNorm();
  if (norm > maxNorm && Number.isFinite(norm)) {
    for (const shard of store.gradShards) store.kernels.scale(shard, 0, shard.length, maxNorm / norm);
  }
  return norm;
}

interface LossSums {
  crossEntropy: number;
  auxLoss: number;
  zLoss: number;
  load: number[][];
}

/** How many targets count. @throws RangeError for one that is neither a token nor ignoreIndex. */
function checkTargets(targets: ArrayLike<number>, vocabSize: number, ignoreIndex: number): number {
  let counted = 0;
  for (let t = 0; t < targets.length; t++) {
    const id = targets[t];
    if (id === ignoreIndex) continue;
    if (!(id >= 0 && id < vocabSize && Number.isInteger(id))) {
      throw new RangeError(`target ${id} at position ${t} must be an integer in [0, ${vocabSize})`);
    }
    counted++;
  }
  return counted;
}

function shares(counts: number[]): number[] {
  const total = counts.reduce((sum, n) => sum + n, 0);
  return counts.map((n) => n / total);
}

function checkPair(ids: Tensor, targets: Tensor): void {
  if (!(ids instanceof Tensor) || !(targets instanceof Tensor) || ids.ndim !== 2) {
    throw new TypeError('ids and targets must be Tensors of shape [B,S]; Tensor.fromIds makes them');
  }
  if (ids.shape.join() !== targets.shape.join()) {
    throw new RangeError(`targets must have the shape of ids [${ids.shape}], got [${targets.shape}]`);
  }
}

function checkConfig(defaults: TrainConfig, options: Partial<TrainConfig>): TrainConfig {
  const config = { ...defaults };
  for (const [key, value] of Object.entries(options) as [keyof TrainConfig, unknown][]) {
    if (!(key in defaults)) {
      throw new TypeError(`TrainConfig: unknown option '${key}'; known: ${Object.keys(defaults).join(', ')}`);
    }
    if (value === undefined) continue;
    if (typeof value !== 'number') {
      throw new TypeError(`TrainConfig: ${key} must be a number, got ${typeof value}`);
    }
    config[key] = value;
  }
  const rules: [keyof TrainConfig, boolean, string][] = [
    ['lr', config.lr >= 0 && Number.isFinite(config.lr), 'a finite number >= 0'],
    ['beta1', config.beta1 >= 0 && config.beta1 < 1, 'in [0, 1)'],
    ['beta2', config.beta2 >= 0 && config.beta2 < 1, 'in [0, 1)'],
    ['eps', config.eps > 0 && Number.isFinite(config.eps), 'a finite number > 0'],
    ['weightDecay', config.weightDecay >= 0 && Number.isFinite(config.weightDecay), 'a finite number >= 0'],
    ['gradClip', config.gradClip > 0, '> 0 (Infinity: off)'],
    ['warmupSteps', Number.isInteger(config.warmupSteps) && config.warmupSteps >= 0, 'an integer >= 0'],
    ['totalSteps', Number.isInteger(config.totalSteps) && config.totalSteps >= 1, 'an integer >= 1'],
    [
      'auxLossAlpha',
      config.auxLossAlpha >= 0 && Number.isFinite(config.auxLossAlpha),
      'a finite number >= 0',
    ],
    ['zLossCoef', config.zLossCoef >= 0 && Number.isFinite(config.zLossCoef), 'a finite number >= 0'],
    [
      'gradAccumulationSteps',
      Number.isInteger(config.gradAccumulationSteps) && config.gradAccumulationSteps >= 1,
      'an integer >= 1',
    ],
    ['ignoreIndex', Number.isInteger(config.ignoreIndex) && config.ignoreIndex < 0, 'a negative integer'],
  ];
  for (const [key, ok, want] of rules) {
    if (!ok) throw new RangeError(`TrainConfig: ${key} must be ${want}, got ${config[key]}`);
  }
  return config;
}
