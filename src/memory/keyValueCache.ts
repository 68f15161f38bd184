import { checkInteger } from '../base/checks';
import { SgemoeError } from '../base/errors';
import {
  fitsRows,
  KV_CACHE_DTYPES,
  type KvCacheDtype,
  STORAGE_TYPES,
  storedBytes,
} from '../base/storageTypes';
import { type CacheLayer, planCacheLayers } from './cacheLayer';
import type { AttentionRun } from './operations/attention';
import type { Planner } from './workspace';

export interface KeyValueCacheDims {
  nLayers: number;
  nKvHeads: number;
  headDim: number;
}

/** Reserves the keys and values [2 nLayers slots contextLength, nKvHeads D]. */
export function planCache(
  planner: Planner,
  { nLayers, nKvHeads, headDim }: KeyValueCacheDims,
  dtype: KvCacheDtype,
  slots: number,
  contextLength: number,
  bytesPerFloat: number,
): CacheLayer[] {
  return planCacheLayers(planner, dtype, nLayers, slots * contextLength, nKvHeads * headDim, bytesPerFloat);
}

/** Bytes of a cache's keys and values, and of the ids of its tokens. */
export function cacheBytes(
  { nLayers, nKvHeads, headDim }: KeyValueCacheDims,
  dtype: KvCacheDtype,
  slots: number,
  contextLength: number,
  bytesPerFloat: number,
): { keysAndValues: number; ids: number } {
  const tokens = slots * contextLength;
  const cols = nKvHeads * headDim;
  const rowBytes = dtype === 'float32' ? cols * bytesPerFloat : storedBytes(dtype, cols);
  return { keysAndValues: 2 * nLayers * tokens * rowBytes, ids: tokens * Int32Array.BYTES_PER_ELEMENT };
}

/** @throws TypeError or RangeError unless `dtype` is one of KV_CACHE_DTYPES and a head's numbers are whole blocks of it. */
export function checkKvCacheDtype(what: string, dtype: unknown, headDim: number): KvCacheDtype {
  if (typeof dtype !== 'string') throw new TypeError(`${what} must be a string, got ${typeof dtype}`);
  const known = KV_CACHE_DTYPES.find((each) => each === dtype);
  if (known === undefined) {
    throw new RangeError(`${what} must be ${KV_CACHE_DTYPES.join(', ')}, got '${dtype}'`);
  }
  if (fitsRows(known, headDim)) return known;
  throw new RangeError(
    `${what} '${known}' needs a headDim that is a multiple of ${STORAGE_TYPES[known].elements}, ` +
      `the model's is ${headDim}; 'float16' takes any`,
  );
}

/**
 * The keys and values of the tokens of sequences so far (Pope et al. 2022, section 2.1), for `slots` sequences of
 * `contextLength` tokens each. All 2 nLayers slots contextLength nKvHeads D numbers are reserved at once; pages without
 * tokens take no memory on most systems. Order in memory: layer, keys | values, slot, position, then the nKvHeads D numbers
 * of a token. Keys are rotated.
 */
export class KeyValueCache {
  readonly layers: readonly CacheLayer[];
  /** Number of tokens in each slot. */
  readonly lengths: Int32Array;
  readonly #tokens: Int32Array;

  /** @param planner plans the workspace that holds the cache. */
  constructor(
    dims: KeyValueCacheDims,
    dtype: KvCacheDtype,
    readonly slots: number,
    readonly contextLength: number,
    planner: Planner,
    bytesPerFloat: number,
  ) {
    this.layers = planCache(planner, dims, dtype, slots, contextLength, bytesPerFloat);
    this.lengths = new Int32Array(slots);
    this.#tokens = new Int32Array(slots * contextLength);
  }

  /** @throws RangeError unless `slot` exists. */
  checkSlot(what: string, slot: number): void {
    if (Number.isInteger(slot) && slot >= 0 && slot < this.slots) return;
    throw new RangeError(`${what} must be an integer in [0, ${this.slots}), got ${String(slot)}`);
  }

  /** @throws SgemoeError SGEMOE_CONTEXT_FULL unless `count` more tokens fit into a slot. */
  checkRoom(slot: number, count: number): void {
    const length = this.lengths[slot];
    if (length + count <= this.contextLength) return;
    throw new SgemoeError(
      'SGEMOE_CONTEXT_FULL',
      `slot ${slot} holds ${length} tokens, ${count} more exceed the context of ${this.contextLength}`,
    );
  }

  /** Records ids [from, to) as the next tokens of a slot, without changing its length yet. */
  note(slot: number, ids: ArrayLike<number>, from: number, to: number): void {
    const at = slot * this.contextLength + this.lengths[slot] - from;
    for (let i = from; i < to; i++) this.#tokens[at + i] = ids[i];
  }

  /** Forgets the tokens of a slot from `length` on. */
  truncate(slot: number, length: number): void {
    this.checkSlot('truncate: slot', slot);
    checkInteger('truncate: length', length, 0);
    if (length > this.lengths[slot]) {
      throw new RangeError(`truncate: length must be at most ${this.lengths[slot]}, got ${length}`);
    }
    this.lengths[slot] = length;
  }

  /** The length of the common prefix of `ids` and a slot's tokens. */
  commonPrefix(slot: number, ids: ArrayLike<number>): number {
    this.checkSlot('commonPrefix: slot', slot);
    const length = Math.min(this.lengths[slot], ids.length);
    const at = slot * this.contextLength;
    let i = 0;
    while (i < length && this.#tokens[at + i] === ids[i]) i++;
    return i;
  }

  /** Makes slot `to` hold the first `length` tokens of slot `from` and nothing else. */
  copyPrefix(from: number, to: number, length: number): void {
    this.checkSlot('copyPrefix: from', from);
    this.checkSlot('copyPrefix: to', to);
    checkInteger('copyPrefix: length', length, 0);
    if (length > this.lengths[from]) {
      throw new RangeError(`copyPrefix: length must be at most ${this.lengths[from]}, got ${length}`);
    }
    const { contextLength } = this;
    for (const layer of this.layers) layer.copyRows(from * contextLength, to * contextLength, length);
    const tokens = from * contextLength;
    this.#tokens.copyWithin(to * contextLength, tokens, tokens + length);
    this.lengths[to] = length;
  }
}

/**
 * The assignment of a step's tokens to slots. A run is a group of neighbouring slots with equally many new tokens, which is
 * one call of the attention kernel.
 */
export class CachedSequences {
  /** Number of elements of `run` in use. */
  runs = 0;
  /** The runs in the order of their rows in the cache; those in use come first. */
  readonly run: readonly AttentionRun[];

  constructor(readonly cache: KeyValueCache) {
    this.run = Array.from({ length: cache.slots }, () => {
      return { sequence: 0, token: 0, sequences: 0, newTokens: 0, kvRow: 0, kvRows: cache.contextLength };
    });
  }

  clear(): void {
    this.runs = 0;
  }

  /** Adds the sequence of a slot after the previous ones. */
  add(slot: number, newTokens: number): void {
    const kvRow = slot * this.cache.contextLength;
    const last = this.runs > 0 ? this.run[this.runs - 1] : null;
    const follows = last !== null && last.kvRow + last.sequences * last.kvRows === kvRow;
    if (follows && last.newTokens === newTokens) {
      last.sequences++;
      return;
    }
    const next = this.run[this.runs++];
    next.sequence = last === null ? 0 : last.sequence + last.sequences;
    next.token = last === null ? 0 : last.token + last.sequences * last.newTokens;
    next.sequences = 1;
    next.newTokens = newTokens;
    next.kvRow = kvRow;
  }
}
