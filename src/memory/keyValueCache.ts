import { checkInteger } from '../base/checks';
import { SgemoeError } from '../base/errors';
import type { IndexView, MatrixView } from './matrixView';
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
  slots: number,
  contextLength: number,
): MatrixView {
  return planner.floats(2 * nLayers * slots * contextLength, nKvHeads * headDim);
}

/** Bytes of a cache's keys, values and token ids. */
export function cacheBytes(
  dims: KeyValueCacheDims,
  slots: number,
  contextLength: number,
  bytesPerFloat: number,
): number {
  const ids = slots * contextLength;
  return numbersOf(dims, slots, contextLength) * bytesPerFloat + ids * Int32Array.BYTES_PER_ELEMENT;
}

function numbersOf({ nLayers, nKvHeads, headDim }: KeyValueCacheDims, slots: number, contextLength: number) {
  return 2 * nLayers * slots * contextLength * nKvHeads * headDim;
}

/**
 * The keys and values of the tokens of sequences so far (Pope et al. 2022, section 2.1), for `slots` sequences of
 * `contextLength` tokens each. All 2 nLayers slots contextLength nKvHeads D numbers are reserved at once; pages without
 * tokens take no memory on most systems. Order in memory: layer, keys | values, slot, position, then the nKvHeads D numbers
 * of a token. Keys are rotated.
 */
export class KeyValueCache {
  /** The keys of each layer [slots contextLength, nKvHeads D]; token p of slot s is row s contextLength + p. */
  readonly keys: readonly MatrixView[];
  /** The values of each layer, laid out as the keys. */
  readonly values: readonly MatrixView[];
  /** Number of tokens in each slot. */
  readonly lengths: Int32Array;
  readonly #tokens: Int32Array;

  /** @param planner plans the workspace that holds the cache. */
  constructor(
    private readonly dims: KeyValueCacheDims,
    readonly slots: number,
    readonly contextLength: number,
    planner: Planner,
  ) {
    const rows = slots * contextLength;
    const all = planCache(planner, dims, slots, contextLength);
    this.keys = Array.from({ length: dims.nLayers }, (_, layer) => all.slice(2 * layer * rows, rows));
    this.values = this.keys.map((_, layer) => all.slice((2 * layer + 1) * rows, rows));
    this.lengths = new Int32Array(slots);
    this.#tokens = new Int32Array(rows);
  }

  /** Number of elements of the keys and values. */
  get size(): number {
    return numbersOf(this.dims, this.slots, this.contextLength);
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
    for (const { data, at, ld } of [...this.keys, ...this.values]) {
      const source = at + from * contextLength * ld;
      data.copyWithin(at + to * contextLength * ld, source, source + length * ld);
    }
    const tokens = from * contextLength;
    this.#tokens.copyWithin(to * contextLength, tokens, tokens + length);
    this.lengths[to] = length;
  }

  /** Copies a run's keys and values, rows of k and v in the same workspace, to their positions [T] in a layer. */
  append(layer: number, run: AttentionRun, positions: IndexView, k: MatrixView, v: MatrixView): void {
    const keys = this.keys[layer];
    const values = this.values[layer];
    const { data, cols } = keys;
    const { token, newTokens, kvRow, kvRows } = run;
    for (let i = 0; i < run.sequences * newTokens; i++) {
      const t = token + i;
      const row = kvRow + Math.floor(i / newTokens) * kvRows + positions.data[positions.at + t];
      const key = k.at + t * k.ld;
      const value = v.at + t * v.ld;
      data.copyWithin(keys.at + row * cols, key, key + cols);
      data.copyWithin(values.at + row * cols, value, value + cols);
    }
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
