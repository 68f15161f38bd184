import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkIds, checkOptions, checkTensor, checkWeight } from '../base/checks';
import { allocateUnset } from '../base/dtype';
import { checkPrecision, type Precision, promptPrecision } from '../base/precision';
import { DEFAULT_SEED } from '../base/random';
import { inThisRealm } from '../base/realm';
import { requireMemory } from '../base/requireMemory';
import type { KvCacheDtype } from '../base/storageTypes';
import { type Checkpoint, loadCheckpoint, type SaveOptions } from '../checkpoint/checkpoint';
import type { GenerationConfig } from '../checkpoint/generationConfig';
import type { LoraOptions } from '../config/loraOptions';
import { ModelConfig, type ModelConfigOptions } from '../config/modelConfig';
import { adapterBase } from '../hf/adapterBase';
import { endTokensOf } from '../hf/endTokens';
import { modelPath } from '../hf/hub/modelPath';
import { matrixOf } from '../memory/matrixView';
import { type Parameter, ParameterStore } from '../memory/parameters';
import { freezeAsShared, type SharedModel, shareModel } from '../memory/sharedModel';
import type { Workspace } from '../memory/workspace';
import {
  type GenerateOptions,
  GreedySampling,
  generate,
  TemperatureSampling,
  TopKSampling,
  TopPSampling,
} from '../sampling/generate';
import type { NextTokenModel, SamplingStrategy, TokenSequence } from '../sampling/nextToken';
import { Tensor } from '../tensor/tensor';
import { type AssembledParts, assemble, parameterNames, trainedStore, useLora } from './assemble';
import type { TransformerBlock } from './block';
import { Decoder } from './decoder';
import type { Embedding } from './embedding';
import { ExpertExchange } from './expertExchange';
import { checkForward, idsOf, modeOf } from './ids';
import type { Linear, RMSNorm } from './layers';
import { Lora } from './lora';
import { loadLora } from './loraFiles';
import { ModelLoss } from './loss';
import type {
  ConstructionOptions,
  ForwardOptions,
  FreezeOptions,
  LoadOptions,
  ModelOptions,
  NeedsOf,
  Origin,
  Trace,
} from './options';
import { chosenNames } from './partNames';
import { Passes } from './passes';
import { beginReading } from './reading';
import { saveModel } from './saveModel';
import { checkModelDtype } from './storedWeights';
import { traceOf } from './trace';

export type { ForwardOptions, FreezeOptions, LoadOptions, ModelOptions, NeedsOf, Trace } from './options';

const NO_OPTIONS = Object.freeze({});
const LOAD_OPTIONS = ['kernels', 'onNote', 'needs', 'dtype', 'expertRanks', 'hub'] as const;

/**
 * Mixture-of-Experts transformer: ids [B,S] -> embedding -> N x { x + Attention(RMSNorm(x)); h + MoE(RMSNorm(h)) } ->
 * RMSNorm -> lm_head -> logits [B,S,V]. Causal, pre-norm, no dropout. The config's denseLayers have one SwiGLU in place of MoE.
 */
export class MoETransformer implements NextTokenModel {
  readonly config: ModelConfig;
  /** The content of generation_config.json, and the end tokens of config.json; null for none. `save` and exports write it. */
  readonly generationConfig: GenerationConfig | null;
  /**
   * Tokens that end a text, from `eos_token_id` of the checkpoint's config.json and generation_config.json. The tokenizer's
   * end token counts too, where there is a tokenizer.
   */
  readonly endTokens: readonly number[];
  /** The checkpoint that it was loaded from, and the type of its matrices; null for none. */
  readonly origin: Origin | null;
  readonly kernels: Kernels;
  readonly store: ParameterStore;
  readonly embedding: Embedding;
  readonly blocks: readonly TransformerBlock[];
  readonly norm: RMSNorm;
  readonly lmHead: Linear;
  /** By which other ranks compute their part of the experts; null where all are here. */
  readonly expertExchange: ExpertExchange | null;
  /**
   * Forward with loss, and its backward, for trainings and evaluations.
   * @internal
   */
  readonly loss: ModelLoss;
  readonly #byName: Map<string, Parameter>;
  readonly #parts: AssembledParts;
  readonly #passes: Passes;

  private constructor(config: ModelConfig, kernels: Kernels, options: ConstructionOptions = {}) {
    if (!kernels) throw new TypeError('MoETransformer: use MoETransformer.create(config, { seed })');
    const {
      what = 'The model',
      needs,
      generationConfig = null,
      planOf,
      stored = null,
      origin = null,
      expertRanks,
      ...storeOptions
    } = options;
    this.origin = origin;
    this.config = config;
    this.generationConfig = generationConfig;
    // The condition is there so that a program that only computes never loads the modules that read files.
    this.endTokens = generationConfig === null ? [] : endTokensOf(generationConfig, config.vocabSize);
    this.kernels = kernels;
    this.store = new ParameterStore(kernels, storeOptions);
    const { store } = this;
    this.expertExchange = expertRanks ? new ExpertExchange(kernels, config.nExperts, expertRanks) : null;
    const parts: AssembledParts = assemble(config, store, this.expertExchange);
    this.#parts = parts;
    this.embedding = parts.embedding;
    this.blocks = parts.blocks;
    this.norm = parts.norm;
    this.lmHead = parts.lmHead;
    const plan = planOf?.(store) ?? null;
    store.keepStored(store.tables.filter((_, i) => (plan ?? stored)?.tables[i]));
    if (!storeOptions.shared) this.#requireMemory(what, needs, plan?.residentBytes ?? 0);
    store.allocate();
    if (stored !== null) store.attachStored(stored);
    this.#passes = new Passes(parts);
    this.loss = new ModelLoss(parts, this.#passes);
    this.#byName = new Map(store.parameters.map((p) => [p.name, p]));
  }

  /** What is given of `needs` counts float32 weights; the model's own figures take their place. */
  #requireMemory(what: string, needs: NeedsOf | undefined, storedBytes: number): void {
    const { store, config } = this;
    const weights = store.weightBytes + storedBytes;
    const other = needs?.(config) ?? {};
    const packed = other.packed ? store.copyBytes() : 0;
    requireMemory(what, { ...other, weights, packed }, store.kernels.memory.available);
  }

  /**
   * Makes a model with Kaiming normal weights, std sqrt(2/fan_in), and norms at 1. A seed gives the same weights on every
   * machine.
   * @throws TypeError or RangeError for an invalid config or seed; SgemoeError SGEMOE_MEMORY.
   */
  static create(config: ModelConfig | ModelConfigOptions, options: ModelOptions = {}): MoETransformer {
    checkOptions('MoETransformer.create', options, ['seed', 'kernels', 'generationConfig', 'expertRanks']);
    const { kernels = getKernels(), generationConfig, expertRanks } = options;
    const checked = config instanceof ModelConfig ? config : new ModelConfig(config);
    const model = new MoETransformer(checked, kernels, { generationConfig, expertRanks });
    model.store.initialise(options.seed ?? DEFAULT_SEED);
    return model;
  }

  /** The `tiny` preset: 542,528 parameters. */
  static tiny(options: ModelOptions = {}): MoETransformer {
    return MoETransformer.create(ModelConfig.tiny(), options);
  }

  /** The `small` preset: hidden 256, experts of width 1024. */
  static small(options: ModelOptions = {}): MoETransformer {
    return MoETransformer.create(ModelConfig.small(), options);
  }

  /**
   * Reads a checkpoint folder of sgemoe or `transformers` (docs/checkpoints.md): config.json and model.safetensors, or shards
   * with their index; a GGUF file; or a folder of adapters, with the base that it names. A name such as 'org/name', where nothing here has it, is downloaded from the hub first, as
   * `pull` does. Process warnings list ignored keys of config.json, and weights that are NaN or infinite.
   * @throws SgemoeError with a SGEMOE_CHECKPOINT_* or SGEMOE_CONFIG_INVALID code, or SGEMOE_MEMORY; as `pull` for the hub, `loadLora`.
   */
  static async load(dir: string, options: LoadOptions = {}): Promise<MoETransformer> {
    checkOptions('MoETransformer.load', options, LOAD_OPTIONS);
    if (options.dtype !== undefined) checkModelDtype('MoETransformer.load: dtype', options.dtype);
    const path = await modelPath(dir, options.hub);
    const from = (await adapterBase(path, options.hub)) ?? path;
    const model = await MoETransformer.fromCheckpoint(from, await loadCheckpoint(from), options);
    if (from !== path) await loadLora(path, model);
    return model;
  }

  /** A model of an open checkpoint, which it closes; `name` stands in messages. Errors as `load`. @internal */
  static async fromCheckpoint(
    name: string,
    checkpoint: Checkpoint,
    options: LoadOptions = {},
  ): Promise<MoETransformer> {
    try {
      const { config, construction, fill } = beginReading(name, checkpoint, options);
      const model = new MoETransformer(config, options.kernels ?? getKernels(), construction);
      await fill(model.store);
      return model;
    } finally {
      await checkpoint.tensors.close();
    }
  }

  /**
   * The weights, packed copies and adapters in a form for worker threads of this process, without copying: `fromShared` makes
   * a model of it in the other thread. All see writes, such as a training's, so nobody may write while another computes.
   */
  share(): SharedModel {
    const lora = this.lora?.share() ?? null;
    return { ...shareModel(this.config, this.generationConfig, this.store), lora };
  }

  /**
   * A model with the weights of another thread's, frozen if that is. One with divided experts takes `expertRanks` with the same counts.
   * @throws TypeError for what `share` didn't return.
   */
  static fromShared(
    shared: SharedModel,
    options: Pick<LoadOptions, 'kernels' | 'expertRanks'> = {},
  ): MoETransformer {
    checkOptions('MoETransformer.fromShared', options, ['kernels', 'expertRanks']);
    const own = inThisRealm(shared);
    const { config, generationConfig = null, shards, bufferData, stored = null } = own;
    if (!shards) throw new TypeError('MoETransformer.fromShared: shared must be what model.share() gives');
    const kernels = options.kernels ?? getKernels();
    const model = new MoETransformer(ModelConfig.fromJSON(config), kernels, {
      shared: { shards, bufferData },
      stored,
      generationConfig,
      expertRanks: options.expertRanks,
    });
    freezeAsShared(model.store, own);
    if (own.lora) model.addLora(Lora.fromShared(model.#parts, own.lora));
    return model;
  }

  /**
   * Writes config.json, model.safetensors, generation_config.json if the model has one or it is given, and a tokenizer's
   * `files()` if given: all of them or none. The weights are copied before the call returns, so training may go on
   * meanwhile.
   * @throws SgemoeError SGEMOE_CHECKPOINT_WRITE, or SGEMOE_CONFIG_INVALID for an `eos_token_id` that is no token id.
   */
  async save(dir: string, options: SaveOptions = {}): Promise<void> {
    await saveModel(this, dir, options);
  }

  get vocabSize(): number {
    return this.config.vocabSize;
  }

  get maxSeqLen(): number {
    return this.config.maxSeqLen;
  }

  /** Views of the parameters under their checkpoint names, in the order of memory. Writing changes the model. */
  *namedParameters(): IterableIterator<[string, Parameter]> {
    for (const parameter of this.store.parameters) yield [parameter.name, parameter];
  }

  /**
   * Views of the model's buffers, the routers' selection biases, under their checkpoint names. They have no gradient and no
   * optimizer state. Checkpoints hold them unless all are 0.
   */
  *namedBuffers(): IterableIterator<[string, Parameter]> {
    for (const buffer of this.store.buffers) yield [buffer.name, buffer];
  }

  /** Chooses what is trained, for TrainConfig's `train`; without effect beside adapters. @throws RangeError for an unknown name. */
  train(patterns: readonly string[]): void {
    const names = parameterNames(this);
    const chosen = chosenNames('train', patterns, names);
    if (this.lora === null) this.store.choose((name) => chosen.has(name), names);
  }

  /** The adapters beside the weights; null without. */
  get lora(): Lora | null {
    return this.#parts.lora;
  }

  /** The store of what a training changes: the adapters' where there are any, or the model's. */
  get trained(): ParameterStore {
    return trainedStore(this.#parts);
  }

  /**
   * Adds low-rank adapters beside the weight matrices, new ones or those of `readLora`: from now on forwards compute with them and
   * only they are trained, so the weights may be stored ones. Decoders made before stay without.
   * @throws RangeError for an unknown target; TypeError if the model has adapters; SgemoeError SGEMOE_MEMORY.
   */
  addLora(options: LoraOptions | Lora = {}): Lora {
    if (this.lora) throw new TypeError('addLora: the model has adapters; mergeLora or removeLora first');
    const lora = options instanceof Lora ? options : Lora.create(this.#parts, options);
    this.#setLora(lora);
    return lora;
  }

  /**
   * Adds the adapters to the weights, W += s B A, and ends them. @throws SgemoeError SGEMOE_MODEL_STORED or
   * SGEMOE_MODEL_FROZEN; TypeError without adapters.
   */
  mergeLora(): void {
    if (!this.lora) throw new TypeError('mergeLora: the model has no adapters');
    this.lora.addToWeights();
    this.#setLora(null);
  }

  /** Drops the adapters: the model computes as its base again, and trains all weights. */
  removeLora(): void {
    if (this.lora) this.#setLora(null);
  }

  #setLora(lora: Lora | null): void {
    useLora(this.#parts, lora);
    this.#passes.forgetPlans();
  }

  /** The parameter of a name. @throws RangeError for a name that the model doesn't have. */
  parameter(name: string): Parameter {
    const found = this.#byName.get(name);
    if (!found) throw new RangeError(`the model has no parameter named '${name}'`);
    return found;
  }

  /**
   * Logits [B,S,V] of int32 or int64 ids [B,S].
   * @throws RangeError for an id outside the vocabulary or S > maxSeqLen; TypeError for another dtype.
   */
  forward(ids: Tensor, options: ForwardOptions = NO_OPTIONS): Tensor<'float32'> {
    if (!(ids instanceof Tensor) || ids.ndim !== 2) {
      throw new TypeError('forward: ids must be a Tensor of shape [B,S]; Tensor.fromIds makes one');
    }
    return this.forwardIds(idsOf(ids), ids.shape[0], ids.shape[1], options);
  }

  /** Computes `forward` for `batch` sequences of `seq` ids in row-major order. */
  forwardIds(
    ids: ArrayLike<number>,
    batch: number,
    seq: number,
    options: ForwardOptions = NO_OPTIONS,
  ): Tensor<'float32'> {
    const { vocabSize: V } = this.config;
    checkForward(ids, [batch, seq, V], options, this.#floatType);
    const passes = this.#passes;
    const pass = passes.enter(batch, seq, modeOf(options), 'logits', options.precision);
    passes.copyIds(pass.ids, ids);
    const logits = options.out ?? this.#newLogits(batch, seq);
    const x = passes.hidden(pass);
    this.lmHead.forwardAt(pass.head!.lmHead, x, matrixOf(logits.data, pass.tokens, V), false);
    this.store.requireUnchanged();
    return logits;
  }

  /**
   * Adds the gradient of sum(dLogits * logits) of the last training forward to every parameter's `grad`, plus those of the
   * balance loss and the z-loss if their factors aren't 0. `zeroGradients` starts afresh.
   * @param options.auxLossAlpha default 0. @param options.zLossCoef default 0.
   * @throws SgemoeError SGEMOE_NO_FORWARD unless the last forward had { training: true }.
   */
  backward(
    dLogits: Tensor,
    options: { auxLossAlpha?: number | undefined; zLossCoef?: number | undefined } = {},
  ): void {
    const pass = this.#passes.kept('logits');
    checkOptions('backward', options, ['auxLossAlpha', 'zLossCoef']);
    const { auxLossAlpha = 0, zLossCoef = 0 } = options;
    checkWeight('backward: auxLossAlpha', auxLossAlpha);
    checkWeight('backward: zLossCoef', zLossCoef);
    const shape = [pass.batch, pass.seq, this.config.vocabSize];
    checkTensor('backward: dLogits', dLogits, shape, this.#floatType);
    const upstream = matrixOf(dLogits.data as Float32Array, pass.tokens, this.config.vocabSize);
    const losses = { auxLossAlpha, zLossCoef, weight: 1 };
    this.#passes.backward(pass, losses, false, () => this.#passes.logitsBackward(pass, upstream));
  }

  /**
   * Prepares the model for forwards only: train steps and writes to `parameter(..).data` throw SgemoeError
   * SGEMOE_MODEL_FROZEN. Arrays taken earlier, and `store.shards`, can't be guarded; writes through them don't reach packed
   * copies. Gradients aren't weights: `backward` still works.
   *
   * @param options.pack also keeps a copy of the weights in the layout that is fastest for matmuls of many rows. It takes
   * `packedBytes`, about the weights without the embedding, or nothing if a BLAS library does every matmul. Fewer than 17 rows by
   * large matrices still read the weights as they are (docs/performance.md). Logits may differ in the last bits. Default false.
   * @throws SgemoeError SGEMOE_MEMORY if there is no room for the copy.
   */
  freeze(options: FreezeOptions = NO_OPTIONS): void {
    checkOptions('freeze', options, ['pack']);
    const { pack = false } = options;
    if (typeof pack !== 'boolean') throw new TypeError(`freeze: pack must be a boolean, got ${String(pack)}`);
    if (pack && this.packedBytes === 0) {
      requireMemory('Packing the model', { packed: this.store.copyBytes() }, this.kernels.memory.available);
    }
    this.store.freeze(pack ? 'own' : 'none');
  }

  /** Ends `freeze`: drops the copies and allows writing to the parameters, through a new `data`. */
  unfreeze(): void {
    this.store.unfreeze();
  }

  /** Whether writing to the parameters is an error, as it is between `freeze` and `unfreeze`. */
  get frozen(): boolean {
    return this.store.frozen;
  }

  /** Bytes of the copies that `freeze({ pack: true })` keeps beside the weights; 0 without copies. */
  get packedBytes(): number {
    return this.store.packedBytes;
  }

  /** Bytes of the weights in memory, and of those that are mapped from files. */
  get weightBytes(): { resident: number; mapped: number } {
    return this.store.allBytes;
  }

  /** Sets every gradient to 0. */
  zeroGradients(): void {
    this.trained.zeroGradients();
  }

  /** Computes a forward of ids [B,S] and returns copies of all hidden states and routings. */
  trace(ids: Tensor): Trace {
    const logits = this.forward(ids, { training: true });
    return traceOf(this.blocks, this.#passes.kept('logits'), logits);
  }

  /** Logits [V] of the token after `tokens`; lm_head only computes the last position. `precision` is as in DecoderOptions. */
  nextTokenLogits(
    tokens: ArrayLike<number>,
    out: Float32Array = new Float32Array(this.vocabSize),
    precision: Precision = 'float32',
  ): Float32Array {
    const { length } = tokens;
    if (length === 0) throw new RangeError('nextTokenLogits: tokens must not be empty');
    checkIds('nextTokenLogits', tokens, this.vocabSize);
    checkPrecision('nextTokenLogits', precision);
    const pass = this.#passes.enter(1, length, 'forward', 'logits', promptPrecision(precision, length));
    this.#passes.copyIds(pass.ids, tokens);
    this.#passes.blocks(pass);
    const { x, norm, normOut, lmHead } = pass.head!.last;
    this.norm.forwardAt(norm, x, normOut);
    this.lmHead.forwardAt(lmHead, normOut, matrixOf(out, 1, this.vocabSize), false);
    this.store.requireUnchanged();
    return out;
  }

  /** A sequence with its own key-value cache; a Decoder serves several sequences. */
  openSequence(contextLength: number, kvCacheDtype?: KvCacheDtype, precision?: Precision): TokenSequence {
    const decoder = new Decoder(this, { contextLength, kvCacheDtype, precision });
    return {
      append: (tokens, start, logits) => decoder.prefill(0, tokens, logits, start),
      appendAll: (tokens, start, logits) =>
        void decoder.step([{ slot: 0, tokens, start, logits: 'all' }], { logits }),
      truncate: (length) => decoder.truncate(0, length),
    };
  }

  /** Continues `prompt` to `maxLen` tokens in total; greedily unless a strategy is given. */
  generate(
    prompt: ArrayLike<number>,
    maxLen: number,
    strategy: SamplingStrategy = new GreedySampling(),
    options: GenerateOptions = {},
  ): number[] {
    return generate(this, prompt, maxLen, strategy, options);
  }

  /** Continues with the most probable token each time. */
  generateGreedy(prompt: ArrayLike<number>, maxLen: number): number[] {
    return generate(this, prompt, maxLen);
  }

  /** Continues with tokens drawn from softmax(logits / temperature). */
  generateSample(prompt: ArrayLike<number>, maxLen: number, temperature = 1, seed = DEFAULT_SEED): number[] {
    return generate(this, prompt, maxLen, new TemperatureSampling(temperature, { seed }));
  }

  /** Continues with tokens drawn from the k most probable ones. */
  generateTopK(prompt: ArrayLike<number>, maxLen: number, k: number, temperature = 1, seed = DEFAULT_SEED) {
    return generate(this, prompt, maxLen, new TopKSampling(k, { temperature, seed }));
  }

  /** Continues with tokens drawn from the smallest set whose probability reaches p. */
  generateTopP(prompt: ArrayLike<number>, maxLen: number, p: number, temperature = 1, seed = DEFAULT_SEED) {
    return generate(this, prompt, maxLen, new TopPSampling(p, { temperature, seed }));
  }

  /**
   * The memory of passes.
   * @internal
   */
  get workspace(): Workspace {
    return this.#passes.workspace;
  }

  #newLogits(batch: number, seq: number): Tensor<'float32'> {
    const { vocabSize: V } = this.config;
    const data = allocateUnset(this.#floatType, batch * seq * V);
    return new Tensor(data, [batch, seq, V], this.#floatType);
  }

  /** See Kernels.floatType: float64 hides behind the same type. */
  get #floatType(): 'float32' {
    return this.kernels.floatType as 'float32';
  }
}
