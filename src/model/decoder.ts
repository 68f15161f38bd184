import type { Kernels } from '../backend/kernels';
import { checkIds, checkInteger, checkOptions } from '../base/checks';
import { checkPrecision, type Precision, promptPrecision } from '../base/precision';
import { requireMemory } from '../base/requireMemory';
import type { KvCacheDtype } from '../base/storageTypes';
import { CachedSequences, cacheBytes, checkKvCacheDtype, KeyValueCache } from '../memory/keyValueCache';
import { type IndexView, type MatrixView, matrixOf } from '../memory/matrixView';
import { gatherRows } from '../memory/operations/mixture';
import { copyOut } from '../memory/operations/rows';
import type { ParameterStore } from '../memory/parameters';
import { floatBytes, Planner, Workspace } from '../memory/workspace';
import { AdapterMix } from './adapterMix';
import type { Lora } from './lora';
import { decoderBytes, defaultStepTokens } from './memoryBytes';
import type { ModelParts } from './parts';
import { type HeadPlan, planHead, planStep, type StepPlan } from './stepPlan';

/** The part of a MoETransformer that a decoder needs. */
export interface DecodableModel extends ModelParts {
  readonly kernels: Kernels;
  readonly store: ParameterStore;
}

export interface DecoderOptions {
  /** The number of sequences that the cache has room for, an integer >= 1. Default 1. */
  slots?: number | undefined;
  /** The largest number of tokens of a sequence, an integer in [1, maxSeqLen]. Default: the model's maxSeqLen. */
  contextLength?: number | undefined;
  /**
   * The largest number of tokens of a step, an integer >= slots; activation memory grows with it. Default: 256, or less if
   * contextLength is, but at least slots.
   */
  maxStepTokens?: number | undefined;
  /**
   * How keys and values are kept: 'float32', 'float16' (half the memory; what a number beyond 65,504 becomes is infinite) or
   * 'q8_0' (8.5 bits: blocks of 32 numbers along the head share a scale, as in GGUF), which needs a headDim that is a multiple
   * of 32. Attention computes in float32 on what was kept. Default 'float32'.
   */
  kvCacheDtype?: KvCacheDtype | undefined;
  /**
   * What products by float32 weight matrices multiply in steps that bring 32 or more new tokens of one sequence, as prompts do; other
   * steps, and the logits of fewer than 32 tokens, are computed in float32. 'bfloat16' is mixed precision, as in TrainConfig.
   * Matrices that are kept as they are stored are multiplied as ever. Default 'float32'.
   */
  precision?: Precision | undefined;
}

/** New tokens of one sequence. */
export interface DecodeRow {
  /** The slot that keeps the sequence. */
  slot: number;
  /** Token ids; those in [start, end), at least one, follow the tokens of the slot. */
  tokens: ArrayLike<number>;
  /** First new token. Default 0. */
  start?: number | undefined;
  /** End of the new tokens. Default: tokens.length. */
  end?: number | undefined;
  /** The new tokens whose logits are wanted; the logits of the last predict the next token. Default 'last'. */
  logits?: 'last' | 'all' | 'none' | undefined;
  /**
   * Adapters of the model that it is computed with, as `readLora` makes them; rows of one step may have different ones. All tokens
   * of a slot have the same. Default null: the model as it is.
   */
  adapter?: Lora | null | undefined;
}

/**
 * The outputs of a step; an output that is left out isn't computed. T counts the new tokens of all rows, in their order.
 */
export interface StepOutputs {
  /** Float32Array of at least [R,V]: the logits that the rows ask for, in their order. */
  logits?: Float32Array | undefined;
  /** Float32Array of at least [T,H]: the final norm's output, which is the input of lm_head. */
  hidden?: Float32Array | undefined;
  /** Int32Array of at least [nLayers,T,K]: each token's experts, most probable first; -1 in dense layers. */
  experts?: Int32Array | undefined;
  /** Float32Array of at least [nLayers,T,K]: their gate weights; 0 in dense layers. */
  gateWeights?: Float32Array | undefined;
}

/**
 * Continues several sequences with a key-value cache. A step takes new tokens of any sequences, a whole prompt or one token
 * each, and computes only these; only attention looks back. All tokens of a step share every matmul, so that the weights
 * are read once for all sequences.
 *
 * Each slot holds a sequence, which begins with tokens for an empty slot and ends with `truncate(slot, 0)`. All memory is
 * reserved at construction (`bytes`); a step whose numbers of tokens have occurred before allocates none.
 *
 * It reads the model's weights, or packed copies where the model has them and they are faster. The cache depends on the
 * weights: when they change, truncate every slot.
 */
export class Decoder {
  readonly slots: number;
  readonly contextLength: number;
  readonly maxStepTokens: number;
  readonly kvCacheDtype: KvCacheDtype;
  readonly precision: Precision;
  readonly #model: DecodableModel;
  readonly #cache: KeyValueCache;
  readonly #cached: CachedSequences;
  readonly #workspace: Workspace;
  /** Planner state after the cache (where a step's plan starts) and after the largest step (where a head's plan starts). */
  readonly #cacheEnd: Planner;
  readonly #stepEnd: Planner;
  /** Plans of steps by number of tokens, followed by plans of heads by number of rows, in each precision. */
  readonly #steps: Record<Precision, StepPlan[]> = { float32: [], bfloat16: [] };
  readonly #heads: Record<Precision, HeadPlan[]> = { float32: [], bfloat16: [] };
  /** For each slot, the last step that it took part in. */
  readonly #seen: Float64Array;
  /** The adapters that each slot's tokens were computed with. */
  readonly #adapters: (Lora | null)[];
  readonly #mix: AdapterMix;
  #stepCount = 0;

  /** @throws TypeError or RangeError for an option out of range; SgemoeError SGEMOE_MEMORY. */
  constructor(model: DecodableModel, options: DecoderOptions = {}) {
    checkOptions('Decoder', options, [
      'slots',
      'contextLength',
      'maxStepTokens',
      'kvCacheDtype',
      'precision',
    ]);
    const { config, kernels } = model;
    const { slots = 1, contextLength = config.maxSeqLen, kvCacheDtype = 'float32', precision } = options;
    const { maxStepTokens = defaultStepTokens(slots, contextLength) } = options;
    checkInteger('Decoder: slots', slots, 1);
    checkInteger('Decoder: contextLength', contextLength, 1);
    checkInteger('Decoder: maxStepTokens', maxStepTokens, slots);
    if (contextLength > config.maxSeqLen) {
      throw new RangeError(
        `Decoder: contextLength must be at most maxSeqLen (${config.maxSeqLen}), got ${contextLength}`,
      );
    }
    checkKvCacheDtype('Decoder: kvCacheDtype', kvCacheDtype, config.headDim);
    checkPrecision('Decoder', precision);
    this.precision = precision ?? 'float32';
    const needs = decoderBytes(model, { slots, contextLength, maxStepTokens, kvCacheDtype });
    requireMemory('The decoder', needs, kernels.memory.available);
    this.slots = slots;
    this.contextLength = contextLength;
    this.maxStepTokens = maxStepTokens;
    this.#model = model;
    this.#workspace = new Workspace(kernels);
    this.#cacheEnd = new Planner(this.#workspace);
    this.kvCacheDtype = kvCacheDtype;
    const perFloat = floatBytes(kernels);
    this.#cache = new KeyValueCache(config, kvCacheDtype, slots, contextLength, this.#cacheEnd, perFloat);
    this.#cached = new CachedSequences(this.#cache);
    this.#seen = new Float64Array(slots);
    this.#adapters = new Array(slots).fill(null);
    this.#mix = new AdapterMix(model, model.store);
    // The largest plans come first: all others lie within them, so the workspace never grows, which would lose the cache.
    this.#stepEnd = this.#planStep(maxStepTokens, 'float32').planner;
    this.#workspace.ensure(this.#planHead(maxStepTokens, 'float32').planner);
    model.blocks[0].attention.rope.ensure(contextLength);
  }

  /** Bytes of the cache (keys, values and ids of the tokens) and of the activations. */
  get bytes(): { cache: number; activations: number } {
    const { floats, ints } = this.#workspace;
    const { slots, contextLength, kvCacheDtype } = this;
    const { config } = this.#model;
    const cache = cacheBytes(config, kvCacheDtype, slots, contextLength, floats.BYTES_PER_ELEMENT);
    const activations = floats.byteLength + ints.byteLength - cache.keysAndValues;
    return { cache: cache.keysAndValues + cache.ids, activations };
  }

  /** The number of tokens in a slot. @throws RangeError for a slot that doesn't exist. */
  length(slot: number): number {
    this.#cache.checkSlot('length: slot', slot);
    return this.#cache.lengths[slot];
  }

  /** Forgets the tokens of a slot from `length` on; 0 empties it. @throws RangeError if it holds fewer. */
  truncate(slot: number, length: number): void {
    this.#cache.truncate(slot, length);
  }

  /**
   * The length of the common prefix of `tokens` and a slot: after truncating the slot to it, only the rest is needed. Logits
   * come from new tokens only, so truncate to one token less if the prefix is all of `tokens`. It is 0 for a slot whose tokens
   * were computed with other adapters than `adapter`.
   */
  commonPrefix(slot: number, tokens: ArrayLike<number>, adapter: Lora | null = null): number {
    const common = this.#cache.commonPrefix(slot, tokens);
    return this.#adapters[slot] === adapter ? common : 0;
  }

  /** The adapters that a slot's tokens were computed with; null for none. */
  adapterOf(slot: number): Lora | null {
    return this.length(slot) === 0 ? null : this.#adapters[slot];
  }

  /** Makes slot `to` hold the first `length` tokens of slot `from` and nothing else, without computing them. */
  copyPrefix(from: number, to: number, length: number): void {
    this.#cache.copyPrefix(from, to, length);
    this.#adapters[to] = this.#adapters[from];
  }

  /**
   * Computes the rows' new tokens and keeps their keys and values. It is fastest for rows in the order of their slots with
   * equally many tokens, which need the fewest kernel calls, and with equal adapters together. Returns R, the number of rows of logits that were asked for.
   * @throws before anything is computed or kept: SgemoeError SGEMOE_CONTEXT_FULL if a slot has no room for its tokens;
   * RangeError for a slot that doesn't exist, occurs twice or has tokens of other adapters, an id outside the vocabulary, no tokens, more than
   * maxStepTokens, or an output that is too short; TypeError for an output of another type. After the computation, and before
   * anything is kept: SGEMOE_CHECKPOINT_CHANGED if a mapped file of the model isn't what it was.
   */
  step(rows: readonly DecodeRow[], outputs: StepOutputs): number {
    const tokens = this.#checkRows(rows);
    const wanted = countLogits(rows);
    this.#checkOutputs(outputs, tokens, wanted);
    if (tokens === 0) return 0;
    const precision = promptPrecision(this.precision, mostTokens(rows));
    const plan = this.#planStep(tokens, precision);
    this.#layOut(rows, plan);
    try {
      this.#mix.begin(rows, newTokensOf);
      const last = this.#blocksAt(plan, tokens, outputs);
      this.#mix.end();
      if (outputs.hidden) this.#writeHidden(last, outputs.hidden);
      if (outputs.logits && wanted > 0) this.#writeLogits(rows, last, wanted, precision, outputs.logits);
    } finally {
      this.#mix.end();
    }
    this.#model.store.requireUnchanged();
    for (let i = 0; i < rows.length; i++) {
      this.#adapters[rows[i].slot] = rows[i].adapter ?? null;
      this.#cache.lengths[rows[i].slot] += newTokensOf(rows[i]);
    }
    return wanted;
  }

  /**
   * Computes a prompt of one sequence, from `start` on, in steps of at most maxStepTokens tokens. `logits` [V] receives the
   * logits of the last token.
   */
  prefill(
    slot: number,
    tokens: ArrayLike<number>,
    logits?: Float32Array,
    start = 0,
    adapter: Lora | null = null,
  ): void {
    this.#cache.checkSlot('prefill: slot', slot);
    checkInteger('prefill: start', start, 0);
    this.#cache.checkRoom(slot, tokens.length - start);
    checkIds('prefill', tokens, this.#model.config.vocabSize, start);
    for (let from = start; from < tokens.length; from += this.maxStepTokens) {
      const end = Math.min(from + this.maxStepTokens, tokens.length);
      const isLast = end === tokens.length && logits !== undefined;
      const row: DecodeRow = { slot, tokens, start: from, end, logits: isLast ? 'last' : 'none', adapter };
      this.step([row], isLast ? { logits } : {});
    }
  }

  /** Checks the rows completely and returns their number of tokens. */
  #checkRows(rows: readonly DecodeRow[]): number {
    const { vocabSize } = this.#model.config;
    this.#stepCount++;
    let total = 0;
    for (let i = 0; i < rows.length; i++) {
      const { slot, tokens, start = 0, end = tokens.length } = rows[i];
      this.#cache.checkSlot('step: slot', slot);
      if (this.#seen[slot] === this.#stepCount) throw new RangeError(`step: slot ${slot} occurs twice`);
      this.#seen[slot] = this.#stepCount;
      checkInteger('step: start', start, 0);
      checkInteger('step: end', end, start + 1);
      if (end > tokens.length) throw new RangeError(`step: end must be at most ${tokens.length}, got ${end}`);
      checkIds('step', tokens, vocabSize, start, end);
      this.#checkAdapter(rows[i]);
      this.#cache.checkRoom(slot, end - start);
      total += end - start;
    }
    if (total <= this.maxStepTokens) return total;
    throw new RangeError(`step: at most ${this.maxStepTokens} tokens (maxStepTokens), got ${total}`);
  }

  #checkAdapter({ slot, adapter = null }: DecodeRow): void {
    if (adapter !== null && adapter.base !== this.#model.store)
      throw new TypeError('step: adapter must be made for the model of the decoder');
    if (this.#adapters[slot] === adapter || this.#cache.lengths[slot] === 0) return;
    throw new RangeError(
      `step: the tokens of slot ${slot} were computed with other adapters; truncate it to 0 first`,
    );
  }

  #checkOutputs(outputs: StepOutputs, tokens: number, wanted: number): void {
    const { vocabSize: V, hiddenDim: H, nLayers, topKExperts: K } = this.#model.config;
    checkOptions('step', outputs, OUTPUTS);
    const { floats, ints } = this.#workspace;
    checkOutput('logits', outputs.logits, floats, wanted * V);
    checkOutput('hidden', outputs.hidden, floats, tokens * H);
    checkOutput('experts', outputs.experts, ints, nLayers * tokens * K);
    checkOutput('gateWeights', outputs.gateWeights, floats, nLayers * tokens * K);
  }

  /** Fills in ids, positions and lengths of the step's tokens, and records their slots. */
  #layOut(rows: readonly DecodeRow[], { ids, sequence }: StepPlan): void {
    const { queryStarts, kvLengths, positions } = sequence;
    const { data: ints } = ids;
    this.#cached.clear();
    let t = 0;
    for (let i = 0; i < rows.length; i++) {
      const { slot, tokens, start = 0, end = tokens.length } = rows[i];
      const past = this.#cache.lengths[slot];
      this.#cache.note(slot, tokens, start, end);
      this.#cached.add(slot, end - start);
      ints[queryStarts.at + i] = past;
      ints[kvLengths.at + i] = past + end - start;
      for (let j = start; j < end; j++, t++) {
        ints[ids.at + t] = tokens[j];
        ints[positions.at + t] = past + j - start;
      }
    }
  }

  /** Computes embedding and blocks; returns the last block's output [T,H]. */
  #blocksAt(plan: StepPlan, tokens: number, { experts, gateWeights }: StepOutputs): MatrixView {
    const { embedding, blocks, config } = this.#model;
    const { residual } = plan;
    const choices = tokens * config.topKExperts;
    embedding.forwardAt(plan.embedding, plan.ids, residual[0]);
    for (let i = 0; i < blocks.length; i++) {
      blocks[i].forwardAt(plan.blocks[i], residual[i], residual[i + 1]);
      const { routing } = plan.blocks[i];
      const [from, to] = [i * choices, (i + 1) * choices];
      if (routing === null) {
        experts?.fill(NO_EXPERT, from, to);
        gateWeights?.fill(0, from, to);
        continue;
      }
      if (experts) copyOut(routing.indices, experts, from);
      if (gateWeights) copyOut(routing.weights, gateWeights, from);
    }
    return residual[blocks.length];
  }

  #writeHidden(last: MatrixView, out: Float32Array): void {
    const head = this.#planHead(last.rows, 'float32');
    this.#model.norm.forwardAt(head.norm, last, head.normOut);
    copyOut(head.normOut, out);
  }

  #writeLogits(
    rows: readonly DecodeRow[],
    last: MatrixView,
    wanted: number,
    precision: Precision,
    out: Float32Array,
  ): void {
    const { kernels, norm, lmHead, config } = this.#model;
    const head = this.#planHead(wanted, promptPrecision(precision, wanted));
    let from = last;
    if (wanted < last.rows) {
      listWanted(rows, head.rows);
      from = head.gathered;
      gatherRows(kernels, last, head.rows, from);
    }
    norm.forwardAt(head.norm, from, head.normOut);
    this.#mix.begin(rows, logitsOf);
    lmHead.forwardAt(head.lmHead, head.normOut, matrixOf(out, wanted, config.vocabSize), false);
  }

  #planStep(tokens: number, precision: Precision): StepPlan {
    const plans = this.#steps[precision];
    plans[tokens] ??= planStep(this.#model, this.#cached, this.#cacheEnd.behind(precision), tokens);
    return plans[tokens];
  }

  #planHead(rows: number, precision: Precision): HeadPlan {
    const plans = this.#heads[precision];
    plans[rows] ??= planHead(this.#model, this.#stepEnd.behind(precision), rows);
    return plans[rows];
  }
}

/** What `experts` holds for a dense layer. */
const NO_EXPERT = -1;

const OUTPUTS: readonly (keyof StepOutputs)[] = ['logits', 'hidden', 'experts', 'gateWeights'];

function newTokensOf({ tokens, start = 0, end = tokens.length }: DecodeRow): number {
  return end - start;
}

/** New tokens of the row that has most. */
function mostTokens(rows: readonly DecodeRow[]): number {
  let most = 0;
  for (let i = 0; i < rows.length; i++) most = Math.max(most, newTokensOf(rows[i]));
  return most;
}

/** Lists the tokens whose logits are wanted, in order. */
function listWanted(rows: readonly DecodeRow[], { data, at }: IndexView): void {
  let next = at;
  let t = 0;
  for (let i = 0; i < rows.length; i++) {
    const count = newTokensOf(rows[i]);
    for (let j = count - logitsOf(rows[i]); j < count; j++) data[next++] = t + j;
    t += count;
  }
}

/** The number of rows of logits that a row asks for. @throws RangeError for a value other than the three. */
function logitsOf(row: DecodeRow): number {
  const { logits = 'last' } = row;
  if (logits === 'last') return 1;
  if (logits === 'none') return 0;
  if (logits === 'all') return newTokensOf(row);
  throw new RangeError(`step: logits must be 'last', 'all' or 'none', got ${String(logits)}`);
}

function countLogits(rows: readonly DecodeRow[]): number {
  let count = 0;
  for (let i = 0; i < rows.length; i++) count += logitsOf(rows[i]);
  return count;
}

/** @param like an array of the type that `out` must have. */
function checkOutput(
  what: string,
  out: Float32Array | Int32Array | undefined,
  like: object,
  size: number,
): void {
  if (out === undefined) return;
  if (out?.constructor !== like.constructor) {
    throw new TypeError(`step: ${what} must be a ${like.constructor.name}, got ${out?.constructor?.name}`);
  }
  if (out.length < size) {
    throw new RangeError(`step: ${what} must hold ${size} numbers at least, got ${out.length}`);
  }
}
