import { setImmediate } from 'node:timers/promises';
import type { Collectives } from '../backend/collectives';
import { soloCollectives } from '../backend/collectives/solo';
import type { Batch, Preferences } from '../base/batch';
import { checkInteger, checkOptions, sameShape } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { requireMemory } from '../base/requireMemory';
import { type ResolvedTrainConfig, resolveTrainConfig, type TrainConfig } from '../config/trainConfig';
import type { ParameterStore, WeightRange } from '../memory/parameters';
import { idsOf } from '../model/ids';
import type { LossSums } from '../model/loss';
import { MoETransformer } from '../model/model';
import type { OnGradients } from '../model/passes';
import { Tensor } from '../tensor/tensor';
import { type BatchCounts, type BatchIds, checkBatch } from './checkBatch';
import { anyRank, isStop, throwIfAnyAborted } from './distributed/agreement';
import { parametersOf, sharingOf } from './distributed/divided';
import { StepExchange } from './distributed/exchange';
import { GradientTree } from './distributed/gradientTree';
import { checksum, StepSums } from './distributed/stepSums';
import { AdamW, type Moment, type MomentPiece } from './optimizer';
import { PreferenceLoss, type PreferenceMetrics } from './preferenceLoss';
import { learningRate } from './schedule';
import { SkipLimit } from './skipLimit';

export type { Batch } from '../base/batch';
export type { ResolvedTrainConfig, TrainConfig } from '../config/trainConfig';

export interface LossResult {
  /** crossEntropy + auxLoss + zLoss; of a batch of pairs, the loss of their preferences in place of the cross-entropy. */
  loss: number;
  /** Mean cross-entropy of the targets that count, in nats. */
  crossEntropy: number;
  /** Sum over the layers of alpha * E * sum_e f_e P_e. */
  auxLoss: number;
  /** Sum over the layers of the z-loss; 0 if it is off. */
  zLoss: number;
  /** L2 norm of all gradients, before clipping. */
  gradNorm: number;
  /** Tokens in the batch, without padding. */
  tokens: number;
  /** [nLayers][E]: each expert's share of its layer's assignments, which add up to 1; empty for a dense layer. */
  expertLoad: number[][];
  /** Of a batch of pairs, whose loss is `preferences.loss` + auxLoss + zLoss. */
  preferences?: PreferenceMetrics | undefined;
}

export interface StepResult extends LossResult {
  /** Number of this step, from 1. A skipped step keeps the number for the next one. */
  step: number;
  /** Learning rate of this step. */
  lr: number;
  /** The loss or the gradient was not finite: weights and optimizer are as before. */
  skipped: boolean;
}

export interface TrainerOptions {
  /**
   * The ranks that share each step, such as `(await Distributed.init()).collectives`. Each has a trainer of a model with the same
   * weights and options, gets the same batches, and computes its micro-batches of them. Results, weights and errors of a step
   * are those of all. Default: this one alone.
   */
  collectives?: Collectives | undefined;
}

/** The state of a training beside the weights and AdamW's moments. */
export interface TrainerState {
  /** Updates made. */
  step: number;
  /** Steps skipped for a loss or gradient that was not finite. */
  skippedSteps: number;
}

export interface StepOptions {
  /** int32 [B,S]: the place of each token within its sample where rows hold several, see `Batch`. Default: a row is a sample. */
  positions?: Tensor | undefined;
  /** Makes the samples pairs of a chosen and a rejected answer, see `Batch`. Default: they stand for themselves. */
  preferences?: Preferences | undefined;
}

export interface RunOptions {
  /** Batches, one a step; the run ends with them. */
  data: Iterable<Batch> | AsyncIterable<Batch>;
  /** Steps to make. Default: up to totalSteps. */
  steps?: number | undefined;
  /** Stops the run between two steps, of several ranks all before the same step. */
  signal?: AbortSignal | undefined;
  /** What an abort does: throw the signal's reason, or end the iteration. Default 'throw'. */
  onAbort?: 'throw' | 'return' | undefined;
  /**
   * Consecutive skipped steps, an integer >= 0, after which the run ends with SGEMOE_TRAINING_DIVERGED; 0 means no limit.
   * Default 10.
   */
  maxSkippedSteps?: number | undefined;
}

/**
 * Trains a model: cross-entropy + balance loss, hand-derived gradients, global-norm clipping, AdamW, linear warmup,
 * then a schedule. Gradients stay in `param.grad` after a step, unclipped: the clip factor is applied inside the update. Of several
 * ranks each sums, and updates the weights of, its parts alone; only `lossAndGradients` gives all of them the whole sums.
 */
export class Trainer {
  readonly model: MoETransformer;
  readonly config: ResolvedTrainConfig;
  /** Updates made so far. */
  step = 0;
  /** Steps skipped for a loss or gradient that was not finite. */
  skippedSteps = 0;
  /** The ranks that share each step. */
  readonly collectives: Collectives;
  readonly #optimizer: AdamW;
  /** The pairs of the batch that a step computes; null of other batches. */
  #preferences: PreferenceLoss | null = null;
  readonly #sums: StepSums;
  readonly #tree: GradientTree;
  readonly #exchange: StepExchange;
  #savesRunning = 0;
  /** Tells whether the ranks are in the same state: what all have, and their experts; null until the first step. */
  #state: readonly [number, number] | null = null;

  /**
   * @throws TypeError for an unknown or non-numeric option, RangeError for one out of range, or a number of micro-batches that
   * isn't a multiple of the ranks.
   */
  constructor(model: MoETransformer, config: TrainConfig = {}, options: TrainerOptions = {}) {
    if (!(model instanceof MoETransformer)) {
      throw new TypeError(`Trainer: model must be a MoETransformer, got ${typeof model}`);
    }
    checkOptions('Trainer', options, ['collectives']);
    const ranks = options.collectives ?? model.expertExchange?.ranks ?? soloCollectives();
    this.model = model;
    this.collectives = ranks;
    this.config = resolveTrainConfig(config, model.config.routerAuxLossCoef, ranks.size);
    const { microBatches, train } = this.config;
    if (microBatches % ranks.size !== 0) {
      throw new RangeError(
        `microBatches must be a multiple of the number of ranks (${ranks.size}), got ${microBatches}`,
      );
    }
    const sharing = sharingOf(model, ranks);
    model.train(train);
    this.#optimizer = new AdamW(model.trained, this.config, sharing, () => parametersOf(model));
    const experts = model.loss.noSums().load.flat().length;
    this.#sums = new StepSums(ranks, microBatches, experts, sharing.groupSize);
    this.#tree = new GradientTree(model.trained, microBatches / ranks.size);
    this.#exchange = new StepExchange(model.trained, ranks, sharing.groupSize, this.config.commDtype);
  }

  /**
   * Learning rate of step t, from 1. Up to warmupSteps it is lr * t / warmupSteps; then, with
   * p = (t - warmupSteps) / (totalSteps - warmupSteps), at most 1, and r = minLrRatio, by the schedule:
   * - cosine: lr * (r + (1 - r) * (1 + cos(pi * p)) / 2) (Loshchilov & Hutter 2017, eq. 5, one period)
   * - linear: lr * (1 - (1 - r) * p)
   * - constant: lr
   * @param step default: the next step.
   */
  getLr(step: number = this.step + 1): number {
    return learningRate(this.config, step);
  }

  /**
   * Computes the losses of a batch and writes their gradients to `param.grad`, without clipping or update.
   * ids, targets: int32 or int64 tensors [B,S]; targets[b,s] is the token that follows ids[b,s].
   * @param options.onGradients called during the backward pass with the range of `model.trained.gradShards` that has become
   * final: lm_head and the final norm, then the blocks from last to first, then the embedding; each weight once. With several
   * ranks: called for whole buffers, once all ranks have the sums.
   * @throws RangeError for shapes that differ, ids out of range, or a batch without a target that counts.
   */
  lossAndGradients(
    ids: Tensor,
    targets: Tensor,
    options: StepOptions & { onGradients?: OnGradients | undefined } = {},
  ): LossResult {
    checkOptions('lossAndGradients', options, ['positions', 'preferences', 'onGradients']);
    const { onGradients } = options;
    const isAlone = this.collectives.size === 1;
    const result = this.#lossAndGradients(batchOf(ids, targets, options), isAlone ? onGradients : undefined);
    if (isAlone) return result;
    this.#exchange.gatherGradients();
    if (onGradients) {
      this.model.trained.mirrorSizes.forEach((size, shard) => {
        onGradients({ shard, offset: 0, size });
      });
    }
    return result;
  }

  /**
   * Makes one step: losses, gradients, clipping, AdamW. Arguments and errors are those of `lossAndGradients`.
   * @throws SgemoeError SGEMOE_MODEL_FROZEN, SGEMOE_TRAINING_SAVING, SGEMOE_MEMORY before anything is computed.
   */
  trainStep(ids: Tensor, targets: Tensor, options: StepOptions = {}): StepResult {
    checkOptions('trainStep', options, ['positions', 'preferences']);
    return this.#trainStep(batchOf(ids, targets, options));
  }

  /**
   * Trains on `data` step by step; signals and timers run in between:
   * `for await (const step of trainer.run({ data, signal })) ...`. Leaving the loop ends the run.
   * @throws SgemoeError SGEMOE_TRAINING_DIVERGED after `maxSkippedSteps`; the signal's reason, unless `onAbort` is 'return'.
   */
  async *run(options: RunOptions): AsyncGenerator<StepResult, void, void> {
    const { data, signal, onAbort, maxSkippedSteps } = checkRun(options);
    const skips = new SkipLimit(maxSkippedSteps);
    const steps = options.steps ?? this.config.totalSteps - this.step;
    if (steps <= 0) return;
    let made = 0;
    const isAlone = this.collectives.size === 1;
    const [isWatched] = await anyRank(this.collectives, signal !== undefined);
    try {
      for await (const batch of untilAborted(data, isAlone ? signal : undefined)) {
        await setImmediate();
        if (isWatched) await throwIfAnyAborted(this.collectives, signal);
        const step = this.#trainStep(batch);
        skips.count(step.skipped);
        yield step;
        skips.check();
        if (++made >= steps) return;
      }
    } catch (error) {
      if (onAbort === 'return' && isStop(error, signal)) return;
      throw error;
    }
  }

  /** The counters. The next step depends only on them, the weights, `moments()` and its batch. */
  getState(): TrainerState {
    return { step: this.step, skippedSteps: this.skippedSteps };
  }

  /** @throws RangeError unless both are integers >= 0. */
  setState({ step, skippedSteps }: TrainerState): void {
    checkInteger('state: step', step, 0);
    checkInteger('state: skippedSteps', skippedSteps, 0);
    this.step = step;
    this.skippedSteps = skippedSteps;
  }

  /**
   * Views of AdamW's two moments of each parameter, as `m.<name>` and `v.<name>`; zeros before the first step. Writing to
   * them changes the optimizer. Of several ranks each has its own pieces of them: the elements from `start` on, row-major.
   */
  moments(): Moment[] {
    return this.#optimizer.moments();
  }

  /** The moments of all ranks, see `AdamW.pieces`. @internal */
  momentPieces(): MomentPiece[] {
    return this.#optimizer.pieces();
  }

  /**
   * Runs a job that reads weights and moments, and refuses train steps meanwhile.
   * @internal
   */
  async whileUnchanged<T>(job: () => Promise<T>): Promise<T> {
    this.#savesRunning++;
    try {
      return await job();
    } finally {
      this.#savesRunning--;
    }
  }

  /**
   * Compares the memory that steps with such batches still have to allocate with the memory there is, since a system
   * without memory kills the process.
   * @throws SgemoeError SGEMOE_MEMORY. @internal
   */
  requireMemory(batch: number, seqLen: number): void {
    const { microBatches, gradAccumulationSteps, gradientCheckpointing } = this.config;
    const rows = Math.ceil(batch / (microBatches * gradAccumulationSteps));
    const growth = this.model.loss.growthBytes(rows, seqLen, gradientCheckpointing ? 'recompute' : 'train');
    const gradients = growth.gradients! + this.#tree.missingBytes;
    // As many rows come to a rank's experts as it sends, where the load is even.
    const sent = rows * seqLen * this.model.config.topKExperts;
    const received = this.model.expertExchange?.growthBytes(sent, gradientCheckpointing) ?? 0;
    const activations = growth.activations! + received;
    const needs = { activations, gradients, moments: this.#optimizer.missingBytes };
    requireMemory('The training', needs, this.model.kernels.memory.available);
  }

  #trainStep(batch: BatchIds): StepResult {
    this.model.trained.requireWritable();
    if (this.#savesRunning > 0) {
      throw new SgemoeError('SGEMOE_TRAINING_SAVING', 'trainStep: await saveTraining before the next step.');
    }
    const result = this.#lossAndGradients(batch);
    const step = this.step + 1;
    const lr = this.getLr(step);
    const skipped = !(Number.isFinite(result.loss) && Number.isFinite(result.gradNorm));
    if (skipped) this.skippedSteps++;
    else {
      this.#optimizer.update(step, lr, result.gradNorm, (bucket) => this.#exchange.shareWeights(bucket));
      this.#exchange.finishWeights();
      this.#balance(result.expertLoad);
      this.step = step;
    }
    return { ...result, step, lr, skipped };
  }

  #lossAndGradients(data: BatchIds, onGradients?: OnGradients): LossResult {
    const { model, config } = this;
    const { batch, seqLen } = data;
    const counts = checkBatch(data, model.config, config.ignoreIndex);
    const { counted, tokens } = counts;
    if (counted === 0) throw new RangeError('the batch has no target that counts');
    this.#requireRows(batch);
    if (this.#optimizer.missingBytes > 0) this.requireMemory(batch, seqLen);
    this.#preferences = PreferenceLoss.of(data, this.collectives);
    this.#exchange.begin();
    const sums = this.#computeOwn(data, counts, onGradients);
    this.#sums.exchange(sums, this.#preferences?.sums, data, this.#stateNumbers());
    const gradNorm = this.#exchange.finish();
    const crossEntropy = sums.crossEntropy / counted;
    for (let i = 0; i < sums.load.length; i++) toShares(sums.load[i]);
    const preferences = this.#preferences?.metrics;
    return {
      loss: (preferences?.loss ?? crossEntropy) + sums.auxLoss + sums.zLoss,
      crossEntropy,
      auxLoss: sums.auxLoss,
      zLoss: sums.zLoss,
      gradNorm,
      tokens,
      expertLoad: sums.load,
      ...(preferences && { preferences }),
    };
  }

  #requireRows(batch: number): void {
    const { microBatches, gradAccumulationSteps } = this.config;
    if (microBatches * gradAccumulationSteps <= batch) return;
    const name = microBatches === 1 ? 'gradAccumulationSteps' : 'microBatches * gradAccumulationSteps';
    const parts = microBatches * gradAccumulationSteps;
    throw new RangeError(`${name} (${parts}) must not exceed the batch's sequences (${batch})`);
  }

  /** Computes this rank's micro-batches. Returns their loads; the losses are taken by `#sums`. */
  #computeOwn(data: BatchIds, counts: BatchCounts, onGradients?: OnGradients): LossSums {
    const { rank, size } = this.collectives;
    const own = this.config.microBatches / size;
    const sums = this.model.loss.noSums();
    sums.samples = this.#preferences?.losses;
    // A range that is final in the last micro-batch gets what the others have, and leaves.
    const onFinal =
      this.config.microBatches === 1
        ? onGradients
        : (range: WeightRange) => {
            this.#tree.complete(range);
            this.#exchange.complete(range);
            onGradients?.(range);
          };
    for (let k = 0; k < own; k++) {
      const isLast = k === own - 1;
      this.#compute(rank * own + k, data, counts, sums, isLast ? onFinal : undefined);
      this.#sums.take(rank * own + k, sums, this.#preferences?.sums);
      if (!isLast) this.#tree.keep(k);
    }
    return sums;
  }

  /** Computes the parts of a micro-batch, whose gradients replace the earlier ones. */
  #compute(
    microBatch: number,
    data: BatchIds,
    { counted, tokens, partTokens }: BatchCounts,
    sums: LossSums,
    onGradients?: OnGradients,
  ): void {
    const { model, config } = this;
    const { ids, targets, positions, batch, seqLen: seq } = data;
    const { auxLossAlpha, zLossCoef, ignoreIndex, gradAccumulationSteps, precision } = config;
    const parts = config.microBatches * gradAccumulationSteps;
    const mode = config.gradientCheckpointing ? 'recompute' : 'train';
    const begin = microBatch * gradAccumulationSteps;
    const end = begin + gradAccumulationSteps;
    for (let part = begin; part < end; part++) {
      const first = Math.floor((part * batch) / parts);
      const rows = Math.floor(((part + 1) * batch) / parts) - first;
      const weight = partTokens(first, rows) / tokens;
      const pass = (this.step + this.skippedSteps) * parts + part;
      const gradScale = 1 / counted;
      const terms = { auxLossAlpha, zLossCoef, weight, ignoreIndex, gradScale, pass, precision };
      const rowsOf = { ids, targets, positions, from: first * seq, batch: rows, seq };
      model.loss.forward(rowsOf, terms, mode, sums);
      const scales = this.#preferences?.addPart();
      // The first part overwrites the gradients, the others add to them, the last completes them.
      model.loss.backward(part === begin, part === end - 1 ? onGradients : undefined, scales);
    }
  }

  /** The same on ranks that began with the same weights, options and counters. */
  #stateNumbers(): readonly [number, number] {
    if (this.collectives.size === 1) return [0, 0];
    const { model, config } = this;
    const { shards, shardDivided } = model.trained;
    const weightsWhere = (isDivided: boolean) =>
      shards
        .filter((_, shard) => shardDivided[shard] === isDivided)
        .map(({ buffer, byteOffset, length }) => new Int32Array(buffer, byteOffset, length));
    const about = () => new TextEncoder().encode(JSON.stringify([model.config, config, this.getState()]));
    this.#state ??= [checksum([about(), ...weightsWhere(false)]), checksum(weightsWhere(true))];
    return this.#state;
  }

  #balance(load: number[][]): void {
    const { routerBiasUpdateRate: rate } = this.config;
    if (rate === 0) return;
    const { blocks } = this.model;
    for (let i = 0; i < blocks.length; i++) blocks[i].moe?.router.updateSelectionBias(load[i], rate);
  }
}

/**
 * Scales all gradients by maxNorm / norm when their global L2 norm exceeds maxNorm (Pascanu et al. 2013, alg. 1).
 * Returns the norm before scaling. The Trainer does the same inside its update.
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

/** Checks the options of a run and fills in defaults. @throws TypeError or RangeError */
function checkRun(options: RunOptions): RunOptions & { onAbort: 'throw' | 'return' } {
  checkOptions('run', options, ['data', 'steps', 'signal', 'onAbort', 'maxSkippedSteps']);
  const { data, steps, onAbort = 'throw' } = options;
  const iterable = data as Partial<Iterable<Batch> & AsyncIterable<Batch>> | undefined;
  if (!iterable?.[Symbol.asyncIterator] && !iterable?.[Symbol.iterator]) {
    throw new TypeError('run: data must be an iterable or async iterable of batches');
  }
  if (steps !== undefined) checkInteger('run: steps', steps, 0);
  if (onAbort !== 'throw' && onAbort !== 'return') {
    throw new TypeError(`run: onAbort must be 'throw' or 'return', got ${String(onAbort)}`);
  }
  return { ...options, onAbort };
}

/** Yields the batches of `data`; an abort throws the signal's reason, even while the next batch is awaited. */
async function* untilAborted(
  data: RunOptions['data'],
  signal: AbortSignal | undefined,
): AsyncGenerator<Batch, void, void> {
  const iterator = Symbol.asyncIterator in data ? data[Symbol.asyncIterator]() : data[Symbol.iterator]();
  let giveUp: (reason: unknown) => void = () => {};
  const abort = () => giveUp(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    for (;;) {
      signal?.throwIfAborted();
      // Each batch has its own promise: a race against one promise of the whole run would keep every batch in memory.
      const { done, value } = await new Promise<IteratorResult<Batch, unknown>>((resolve, reject) => {
        giveUp = reject;
        Promise.resolve(iterator.next()).then(resolve, reject);
      });
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener('abort', abort);
    // Not awaited, since a source that hangs in `next` would hang in `return` too.
    void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

function toShares(counts: number[]): void {
  let total = 0;
  for (let e = 0; e < counts.length; e++) total += counts[e];
  for (let e = 0; e < counts.length; e++) counts[e] /= total;
}

function batchOf(ids: Tensor, targets: Tensor, { positions, preferences }: StepOptions): BatchIds {
  if (!(ids instanceof Tensor) || !(targets instanceof Tensor) || ids.ndim !== 2) {
    throw new TypeError('ids and targets must be Tensors of shape [B,S]; Tensor.fromIds makes them');
  }
  requireShape('targets', targets, ids);
  if (positions !== undefined) requireShape('positions', positions, ids);
  const [batch, seqLen] = ids.shape;
  const own = positions && idsOf(positions);
  return { ids: idsOf(ids), targets: idsOf(targets), positions: own, preferences, batch, seqLen };
}

function requireShape(name: string, tensor: Tensor, ids: Tensor): void {
  if (!(tensor instanceof Tensor)) throw new TypeError(`${name} must be a Tensor of shape [B,S]`);
  if (sameShape(ids.shape, tensor.shape)) return;
  throw new RangeError(`${name} must have the shape of ids [${ids.shape}], got [${tensor.shape}]`);
}
