import { checkInteger } from '../base/checks';
import { SgemoeError } from '../base/errors';
import type { IndexView, MatrixView } from './matrixView';
import type { AttentionRun } from './operations';
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

/** Bytes of keys and values, and of the ids that a cache keeps of the tokens. */
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
 * Keys and values of the tokens that sequences have so far (Pope et al. 2022, section 2.1): room for `slots` sequences of
 * `contextLength` tokens each, reserved at once. In memory: layer, keys | values, slot, position, then the nKvHeads D
 * numbers of a token; keys are rotated. 2 nLayers slots contextLength nKvHeads D numbers; pages that no token has reached
 * yet take no memory on most systems.
 */
export class KeyValueCache {
  /** Of each layer [slots contextLength, nKvHeads D]: token p of slot s is row s contextLength + p. */
  readonly keys: readonly MatrixView[];
  /** Laid out as the keys. */
  readonly values: readonly MatrixView[];
  /** Tokens that each slot holds. */
  readonly lengths: Int32Array;
  readonly #tokens: Int32Array;

  /** @param planner of the workspace that the cache lies in. */
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

  /** Numbers that the keys and values take. */
  get size(): number {
    return numbersOf(this.dims, this.slots, this.contextLength);
  }

  /** @throws RangeError unless `slot` is one. */
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

  /** Notes ids [from, to) as what follows in a slot, without making it longer yet. */
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

  /** How many ids at the beginning of `ids` are the tokens that a slot begins with. */
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

  /** Puts a run's keys and values, rows of k and v in the same workspace, where their positions [T] are in a layer. */
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
 * Which tokens of a step belong to which slots. A run is sequences of neighbouring slots with equally many new tokens: one
 * call of the attention kernel.
 */
export class CachedSequences {
  /** How many of `run` are in use. */
  runs = 0;
  /** The runs, one behind the other, as rows of the cache; those in use come first. */
  readonly run: readonly AttentionRun[];

  constructor(readonly cache: KeyValueCache) {
    this.run = Array.from({ length: cache.slots }, () => {
      return { sequence: 0, token: 0, sequences: 0, newTokens: 0, kvRow: 0, kvRows: cache.contextLength };
    });
  }

  clear(): void {
    this.runs = 0;
  }

  /** Adds the sequence of a slot, behind those before. */
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
