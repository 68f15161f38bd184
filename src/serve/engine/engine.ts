import { createHash } from 'node:crypto';
import { checkOptions } from '../../base/checks';
import { SgemoeError } from '../../base/errors';
import { namesOf } from '../../base/options';
import { requireMemory } from '../../base/requireMemory';
import { packageVersion } from '../../base/version';
import type { ModelConfig } from '../../config/modelConfig';
import { MoETransformer } from '../../model/model';
import { checkpointSampling } from '../../sampling/checkpointSampling';
import { isConstrained } from '../../sampling/constraints/options';
import type { SamplingOptions } from '../../sampling/options';
import type { ChatMessage, ChatOptions } from '../../text/chatTemplate';
import type { DecodeOptions, EncodeOptions, Tokenizer } from '../../text/tokenizer';
import type { ToolCallFormatName } from '../../text/toolCalls/formats';
import { listen, unlisten } from './abortListeners';
import { EngineAdapters, type ServedAdapter } from './adapters';
import { CompletionStream } from './completionStream';
import { expertsPerLayer, WorkerCounters } from './counters';
import { Dispatcher } from './dispatcher';
import { EMBEDDING_OPTIONS, type EmbedOptions, resolveEmbeddingForm } from './embedOptions';
import { engineBytes } from './engineBytes';
import { Job, type JobOwner } from './job';
import { loadToServe } from './loadToServe';
import { type EmbeddingResult, fromWire, type Work, type WorkerSetup } from './messages';
import { EngineCounters } from './metrics';
import { countCache, promisedBytes } from './openCaches';
import { type EngineOptions, type ResolvedEngineOptions, resolveEngineOptions } from './options';
import { needInfillTokens, needTokenizer } from './promptSource';
import {
  CONTROL,
  chatSource,
  checkBoolean,
  checkControl,
  checkTokenizer,
  generateWork,
  idsOf,
  textSource,
} from './requests';
import { type TextListener, Texts } from './texts';
import type {
  Completion,
  EngineMetrics,
  GenerateRequest,
  OpenEngineOptions,
  RequestControl,
  StreamChunk,
} from './types';

/**
 * Serves a model from worker threads that share its weights, so that the calling thread never waits for a matmul.
 * Concurrent requests are decoded together; they join and leave between two tokens. A common beginning of several requests
 * is computed once while a slot keeps it.
 *
 * Requests start in the order in which they are made. The same request gives the same text whatever else runs, except for
 * rounding: the tokens that share a matmul may change the last bits of the logits, and so, rarely, the choice between two
 * almost equally probable tokens.
 *
 * An engine without requests doesn't keep the process alive.
 */
export class Engine implements AsyncDisposable {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | null;
  readonly maxBatch: number;
  readonly maxQueue: number;
  readonly contextLength: number;
  /** How tokens are chosen where a request is silent, from the checkpoint's generation_config.json. */
  readonly samplingDefaults: SamplingOptions;
  /** A short text that changes with what may change the answer to a request with a seed: version, model, backend. */
  readonly fingerprint: string;
  /** Bytes of the model's weights in memory, and of those that are mapped from files. */
  readonly weightBytes: { readonly resident: number; readonly mapped: number };
  /**
   * Resolves with the reason once ranks that have a part of the experts are lost: then requests have failed with it, new ones do,
   * and only starting all ranks again helps. Never without `expertRanks`.
   */
  readonly lost: Promise<SgemoeError>;
  readonly #dispatcher: Dispatcher;
  readonly #adapters: EngineAdapters;
  readonly #counters = new EngineCounters();
  readonly #workerCounters: readonly WorkerCounters[];
  readonly #slots: number;
  readonly #options: ResolvedEngineOptions;
  #lastId = 0;
  /** Ends the counting of the cache's memory. */
  #uncount: () => void = () => undefined;

  private constructor(model: MoETransformer, tokenizer: Tokenizer | null, options: ResolvedEngineOptions) {
    const { workers, maxBatch, maxQueue, contextLength, maxStepTokens } = options;
    const { kvCacheDtype, precision, speculateTokens } = options;
    this.#options = options;
    this.config = model.config;
    this.tokenizer = tokenizer;
    this.maxBatch = maxBatch;
    this.maxQueue = maxQueue;
    this.contextLength = contextLength;
    this.weightBytes = model.weightBytes;
    const isIgnored = options.generationConfig === 'ignore';
    this.samplingDefaults = isIgnored ? {} : checkpointSampling(model.generationConfig);
    this.#slots = workers * maxBatch;
    this.#workerCounters = Array.from({ length: workers }, () => new WorkerCounters(model.config));
    const { backend, request, addonPath, instructionSet } = model.kernels.info;
    this.fingerprint = fingerprintOf([
      model.config.toJSON(),
      model.weightBytes,
      backend,
      instructionSet,
      options,
      this.samplingDefaults,
    ]);
    const setup: Omit<WorkerSetup, 'counters' | 'adapters'> = {
      role: 'decode',
      model: model.share(),
      backend: request,
      addonPath,
      tokenizer: tokenizer?.files() ?? null,
      slots: maxBatch,
      contextLength,
      maxStepTokens,
      kvCacheDtype,
      precision,
      speculateTokens,
      experts: expertsOf(model),
    };
    const setups = this.#workerCounters.map(({ data }) => ({ ...setup, counters: data }));
    const texts = (listener: TextListener) => new Texts(tokenizer, contextLength, options, listener);
    let onLost: (error: SgemoeError) => void;
    this.lost = new Promise((resolve) => {
      onLost = (error) => {
        // The ranks that are left must not wait for this one.
        model.expertExchange?.ranks.abort(error.message);
        resolve(error);
      };
    });
    this.#dispatcher = new Dispatcher({ maxBatch, maxQueue, setups, texts, onLost: onLost! });
    this.#adapters = new EngineAdapters(model, this.#dispatcher);
  }

  /**
   * Loads a checkpoint folder, a GGUF file, a model of the hub by its name or a folder of adapters with their base, with its tokenizer,
   * if it has one, and starts the workers.
   * @throws the errors of MoETransformer.load and Engine.create.
   */
  static async open(dir: string, options: OpenEngineOptions = {}): Promise<Engine> {
    const { model, tokenizer, engineOptions } = await loadToServe(dir, options);
    return Engine.create(model, tokenizer, engineOptions);
  }

  /**
   * Serves a loaded model. Its weights must not be written until the engine is closed; it is frozen unless `freeze` is
   * false. Without a tokenizer, requests must be token ids.
   * @throws TypeError or RangeError for an option out of range; SgemoeError SGEMOE_MEMORY when the caches don't fit,
   * SGEMOE_WORKER_DIED when a worker can't start; as `addAdapter`.
   */
  static async create(
    model: MoETransformer,
    tokenizer: Tokenizer | null,
    options: EngineOptions = {},
  ): Promise<Engine> {
    if (!(model instanceof MoETransformer))
      throw new TypeError('Engine.create: model must be a MoETransformer');
    checkTokenizer('Engine.create: tokenizer', tokenizer);
    const resolved = resolveEngineOptions('Engine', options, model.config.maxSeqLen);
    if (model.expertExchange !== null && resolved.workers > 1) {
      throw new RangeError(
        `Engine: workers must be 1 where experts are divided over ranks, got ${resolved.workers}`,
      );
    }
    if (tokenizer !== null && tokenizer.vocabSize > model.vocabSize) {
      throw new RangeError(
        `Engine: the tokenizer must have at most as many tokens as the model (${model.vocabSize}), got ${tokenizer.vocabSize}`,
      );
    }
    const { cache, activations } = engineBytes(model.config, resolved, model.kernels);
    const needs = { cache, activations, engines: promisedBytes() };
    requireMemory('The engine', needs, model.kernels.memory.available);
    if (resolved.threads !== undefined) model.kernels.setThreads(resolved.threads);
    if (resolved.freeze) model.freeze();
    const engine = new Engine(model, tokenizer, resolved);
    engine.#uncount = countCache(cache ?? 0, () => engine.#cachedTokens / engine.#cacheCapacity);
    try {
      await engine.#dispatcher.open();
      for (const [name, dir] of Object.entries(resolved.adapters)) await engine.addAdapter(name, dir);
    } catch (error) {
      await engine.close();
      throw error;
    }
    return engine;
  }

  /** Whether requests are accepted and a worker is ready to answer them. */
  get ready(): boolean {
    return !this.#dispatcher.closing && this.#dispatcher.ready > 0;
  }

  /** Names of the adapters that requests may choose, in the order in which they came. */
  get adapters(): readonly string[] {
    return this.#adapters.names;
  }

  /**
   * Loads an adapter of the model from a folder of `saveLora`, of a training of adapters or of Python's `peft`: requests choose it by its
   * name from then on. Requests with different adapters, and with none, are decoded together.
   * @throws RangeError for a name that is empty or taken; TypeError if the model always computes with adapters of its own; SgemoeError
   * SGEMOE_CHECKPOINT_NOT_FOUND, SGEMOE_CONFIG_INVALID, SGEMOE_CHECKPOINT_EXTRA_TENSOR or SGEMOE_CHECKPOINT_SHAPE for what doesn't
   * fit the model, SGEMOE_MEMORY, SGEMOE_ENGINE_CLOSED.
   */
  async addAdapter(name: string, dir: string): Promise<void> {
    await this.#adapters.add(name, dir);
  }

  /**
   * Drops an adapter: new requests for it are refused at once, those that were accepted end first, and then its memory is given
   * back. @throws SgemoeError SGEMOE_ADAPTER_NOT_FOUND
   */
  async removeAdapter(name: string): Promise<void> {
    await this.#adapters.remove(name);
  }

  /** As `fingerprint`, for answers of an adapter. @throws SgemoeError SGEMOE_ADAPTER_NOT_FOUND */
  fingerprintOf(adapter: string | undefined): string {
    const found = this.#adapterOf(adapter);
    return found === null ? this.fingerprint : `${this.fingerprint}_${found.fingerprint}`;
  }

  /**
   * Completes a request chunk by chunk. The request is submitted at once, not at the first `next()`; leaving the iterator
   * early ends it.
   * @throws at once: TypeError or RangeError for an invalid request, SgemoeError SGEMOE_QUEUE_FULL,
   * SGEMOE_ENGINE_CLOSED or SGEMOE_ADAPTER_NOT_FOUND.
   * While iterating, before the first chunk: SGEMOE_CONTEXT_FULL, SGEMOE_CHAT_TEMPLATE and other errors of the tokenizer,
   * RangeError for an empty prompt, SGEMOE_CONSTRAINT_INVALID. At any time: SGEMOE_CONSTRAINT_LIMIT and
   * SGEMOE_CONSTRAINT_STUCK, SGEMOE_TIMEOUT, SGEMOE_WORKER_DIED, the signal's reason.
   */
  stream(request: GenerateRequest): AsyncIterableIterator<StreamChunk, undefined> {
    return this.#complete(request);
  }

  /** Completes a request and returns the whole. @throws as `stream`. */
  async generate(request: GenerateRequest): Promise<Completion> {
    return this.#complete(request).collect();
  }

  /**
   * Embeddings [dimensions] of texts or ids: by default the mean over their tokens of the final norm's output [H], not scaled.
   * @throws as `stream`.
   */
  async embed(
    texts: readonly (string | ArrayLike<number>)[],
    options: EmbedOptions = {},
  ): Promise<EmbeddingResult> {
    checkOptions('embed', options, [
      ...CONTROL,
      'adapter',
      'addSpecialTokens',
      ...namesOf(EMBEDDING_OPTIONS),
    ]);
    const form = resolveEmbeddingForm(options, this.config.hiddenDim);
    if (!Array.isArray(texts)) throw new TypeError(`embed: texts must be an array, got ${String(texts)}`);
    if (texts.length === 0) return { embeddings: [], promptTokens: 0 };
    const { addSpecialTokens = true } = options;
    const sources = texts.map((text, i) =>
      textSource(`embed: texts[${i}]`, text, addSpecialTokens, this.config.vocabSize),
    );
    const adapter = this.#adapterOf(options.adapter);
    const work: Work = { kind: 'embed', form, adapter: adapter?.id ?? null, sources };
    const result = await this.#ask<EmbeddingResult>(work, options, adapter);
    this.#counters.usage.promptTokens += result.promptTokens;
    return result;
  }

  /**
   * Token ids of a text, or of a conversation in the form that `stream` uses. A worker computes them, so long texts don't
   * block this thread. @param options.addSpecialTokens default true. @throws as `stream`.
   */
  async tokenize(
    text: string | { messages: readonly ChatMessage[]; chat?: ChatOptions | undefined },
    options: RequestControl & EncodeOptions = {},
  ): Promise<Int32Array> {
    checkOptions('tokenize', options, [...CONTROL, 'addSpecialTokens']);
    const { addSpecialTokens = true } = options;
    needTokenizer(this.tokenizer);
    const source =
      typeof text === 'object' && text !== null && 'messages' in text
        ? chatSource(text.messages, text.chat)
        : textSource('tokenize: text', text, addSpecialTokens, this.config.vocabSize);
    return this.#ask<Int32Array>({ kind: 'tokenize', source }, options);
  }

  /** The text of token ids. @throws as `stream`. */
  async detokenize(ids: ArrayLike<number>, options: RequestControl & DecodeOptions = {}): Promise<string> {
    checkOptions('detokenize', options, [...CONTROL, 'skipSpecialTokens']);
    const { skipSpecialTokens = false } = options;
    checkBoolean('detokenize: skipSpecialTokens', skipSpecialTokens);
    const { vocabSize } = needTokenizer(this.tokenizer);
    const work: Work = {
      kind: 'detokenize',
      ids: idsOf('detokenize: ids', ids, vocabSize),
      skipSpecialTokens,
    };
    return this.#ask<string>(work, options);
  }

  metrics(): EngineMetrics {
    const { requests, usage, tokens, firstToken, duration } = this.#counters;
    const { waiting, running, ready, replaced } = this.#dispatcher;
    const expertLoad = expertsPerLayer(this.config).map((experts) => new Array<number>(experts).fill(0));
    for (const counters of this.#workerCounters) counters.addLoadTo(expertLoad);
    return {
      requests: { ...requests },
      waiting,
      running,
      ...usage,
      tokensPerSecond: tokens.read(),
      timeToFirstToken: firstToken.read(),
      duration: duration.read(),
      cache: { tokens: this.#cachedTokens, capacity: this.#cacheCapacity },
      speculation: {
        draftedTokens: this.#sumOf('draftedTokens'),
        acceptedTokens: this.#sumOf('acceptedTokens'),
      },
      expertLoad,
      workers: { ready, replaced },
    };
  }

  /**
   * Refuses new requests and ends the workers: at once, which fails requests with SGEMOE_ENGINE_CLOSED, or with `drain`
   * after all accepted requests have ended. A second call without `drain` cuts a long drain short.
   */
  async close(options: { drain?: boolean | undefined } = {}): Promise<void> {
    checkOptions('close', options, ['drain']);
    const { drain = false } = options;
    checkBoolean('close: drain', drain);
    await this.#dispatcher.close(drain);
    this.#uncount();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #cachedTokens(): number {
    return this.#sumOf('cachedTokens');
  }

  #sumOf(name: 'cachedTokens' | 'draftedTokens' | 'acceptedTokens'): number {
    return this.#workerCounters.reduce((sum, counters) => sum + counters[name], 0);
  }

  get #cacheCapacity(): number {
    return this.#slots * this.contextLength;
  }

  #complete(request: GenerateRequest): CompletionStream {
    const chosen = this.tokenizer?.vocabSize ?? this.config.vocabSize;
    const vocabulary = { model: this.config.vocabSize, chosen };
    const adapter = this.#adapterOf(request?.adapter);
    const work = generateWork(request, adapter?.id ?? null, vocabulary, this.samplingDefaults, () =>
      this.#toolCallFormat(),
    );
    const { source, sampling } = work;
    if (!('ids' in source) || sampling.stop.length > 0 || isConstrained(sampling)) {
      needTokenizer(this.tokenizer);
    }
    if (request.suffix !== undefined) needInfillTokens(needTokenizer(this.tokenizer));
    const stream = new CompletionStream(request.onAbort === 'return');
    const job = this.#submit(work, stream, request, adapter);
    stream.onLeave = () => job.giveUp();
    stream.onChunk = ({ usage, finishReason }, before) => {
      this.#counters.addUsage(before, usage);
      if (finishReason !== null) this.#counters.duration.observe(performance.now() - job.started);
      const isFirst = (before?.completionTokens ?? 0) === 0 && usage.completionTokens > 0;
      if (isFirst) this.#counters.firstToken.observe(performance.now() - job.started);
    };
    return stream;
  }

  /** The adapter of a request; null for the model as it is. @throws TypeError, SgemoeError SGEMOE_ADAPTER_NOT_FOUND */
  #adapterOf(name: unknown): ServedAdapter | null {
    if (name === undefined) return null;
    if (typeof name !== 'string') throw new TypeError(`adapter must be a text, got ${typeof name}`);
    return this.#adapters.find(name);
  }

  /** The form in which the model writes calls. @throws SgemoeError SGEMOE_CHAT_TEMPLATE if it isn't known. */
  #toolCallFormat(): ToolCallFormatName {
    const { toolCallFormat } = needTokenizer(this.tokenizer);
    const format = this.#options.toolCallFormat === 'auto' ? toolCallFormat : this.#options.toolCallFormat;
    if (format) return format;
    const message =
      'The chat template writes calls of functions in a form that is not known here; toolCallFormat may name one.';
    throw new SgemoeError('SGEMOE_CHAT_TEMPLATE', message);
  }

  /** Submits work that has one answer and returns it. */
  #ask<T>(work: Work, control: RequestControl, adapter: ServedAdapter | null = null): Promise<T> {
    return new Promise<T>((done, fail) => {
      const owner: JobOwner = {
        onEvent: ({ error, result }) => {
          if (error === undefined) done(result as T);
          else fail(fromWire(error));
        },
        onError: fail,
        onAbort: (_reason, error) => fail(error),
      };
      this.#submit(work, owner, control, adapter);
    });
  }

  /** Hands a job to the dispatcher; the signal or timeout of `control` may end it. */
  #submit(work: Work, owner: JobOwner, control: RequestControl, adapter: ServedAdapter | null): Job {
    checkControl(work.kind, control);
    const { signal, timeoutMs } = control;
    const job = new Job(++this.#lastId, work, owner, control);
    this.#checkAccepting(job);
    const leave = adapter === null ? null : this.#adapters.use(adapter);
    const onAbort = () => job.abort('abort', signal!.reason);
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => timeOut(job, timeoutMs), timeoutMs);
    job.onSettled = (outcome) => {
      clearTimeout(timer);
      if (signal) unlisten(signal, onAbort);
      this.#counters.requests[outcome]++;
      this.#dispatcher.forget(job);
      leave?.();
    };
    this.#counters.requests.accepted++;
    if (signal?.aborted) onAbort();
    else {
      if (signal) listen(signal, onAbort);
      this.#dispatcher.submit(job);
    }
    return job;
  }

  #checkAccepting({ takesPlace }: Job): void {
    try {
      this.#dispatcher.checkAccepting(takesPlace);
    } catch (error) {
      this.#counters.requests.refused++;
      throw error;
    }
  }
}

/** What a worker needs to go on as this rank of those that have the experts. */
function expertsOf({ expertExchange }: MoETransformer): WorkerSetup['experts'] {
  if (expertExchange === null) return null;
  const { ranks, layout } = expertExchange;
  return { rank: ranks.share(), counts: layout.counts, groupSize: layout.groupSize };
}

function fingerprintOf(parts: readonly unknown[]): string {
  const text = JSON.stringify([packageVersion(), ...parts]);
  return `fp_${createHash('sha256').update(text).digest('hex').slice(0, 12)}`;
}

function timeOut(job: Job, timeoutMs: number): void {
  const message = `The request was not answered within ${timeoutMs} ms.`;
  job.abort('timeout', new SgemoeError('SGEMOE_TIMEOUT', message));
}
