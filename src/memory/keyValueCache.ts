import { checkInteger } from '../base/checks';
import { SgemoeError } from '../base/errors';
import type { Planner } from './workspace';

export interface KeyValueCacheDims {
  nLayers: number;
  nKvHeads: number;
  headDim: number;
}

/** Reserves the keys and values; returns their offset. */
export function planCache(
  planner: Planner,
  dims: KeyValueCacheDims,
  slots: number,
  contextLength: number,
): number {
  return planner.floats(numbersOf(dims, slots, contextLength));
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
  /** nKvHeads D: numbers of the keys of a token, and of its values. */
  readonly width: number;
  /** Numbers from a slot to the next one. */
  readonly slotStride: number;
  /** Tokens that each slot holds. */
  readonly lengths: Int32Array;
  readonly #tokens: Int32Array;
  readonly #start: number;

  /** @param planner of the workspace that the cache lies in. */
  constructor(
    private readonly dims: KeyValueCacheDims,
    readonly slots: number,
    readonly contextLength: number,
    planner: Planner,
  ) {
    this.width = dims.nKvHeads * dims.headDim;
    this.slotStride = contextLength * this.width;
    this.lengths = new Int32Array(slots);
    this.#tokens = new Int32Array(slots * contextLength);
    this.#start = planCache(planner, dims, slots, contextLength);
  }

  /** Numbers that the keys and values take. */
  get size(): number {
    return numbersOf(this.dims, this.slots, this.contextLength);
  }

  /** Offset of the keys of a layer: those of token p of slot s lie s slotStride + p width further on. */
  keysAt(layer: number): number {
    return this.#start + 2 * layer * this.slots * this.slotStride;
  }

  /** Offset of the values of a layer, laid out as its keys. */
  valuesAt(layer: number): number {
    return this.keysAt(layer) + this.slots * this.slotStride;
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
  copyPrefix(floats: Float32Array, from: number, to: number, length: number): void {
    this.checkSlot('copyPrefix: from', from);
    this.checkSlot('copyPrefix: to', to);
    checkInteger('copyPrefix: length', length, 0);
    if (length > this.lengths[from]) {
      throw new RangeError(`copyPrefix: length must be at most ${this.lengths[from]}, got ${length}`);
    }
    const { slotStride, contextLength } = this;
    for (let part = 0; part < 2 * this.dims.nLayers; part++) {
      const at = this.#start + part * this.slots * slotStride;
      const source = at + from * slotStride;
      floats.copyWithin(at + to * slotStride, source, source + length * this.width);
    }
    const tokens = from * contextLength;
    this.#tokens.copyWithin(to * contextLength, tokens, tokens + length);
    this.lengths[to] = length;
  }
}

/**
 * Which tokens of a step belong to which slots. A run is sequences of neighbouring slots with equally many new tokens: one
 * call of the attention kernel.
 */
export class CachedSequences {
  runs = 0;
  /** Of each run: its first slot, how many there are, how many new tokens each has. */
  readonly slot: Int32Array;
  readonly sequences: Int32Array;
  readonly newTokens: Int32Array;

  constructor(readonly cache: KeyValueCache) {
    this.slot = new Int32Array(cache.slots);
    this.sequences = new Int32Array(cache.slots);
    this.newTokens = new Int32Array(cache.slots);
  }

  clear(): void {
    this.runs = 0;
  }

  /** Adds the sequence of a slot, behind those before. */
  add(slot: number, newTokens: number): void {
    const last = this.runs - 1;
    const follows = last >= 0 && this.slot[last] + this.sequences[last] === slot;
    if (follows && this.newTokens[last] === newTokens) {
      this.sequences[last]++;
      return;
    }
    this.slot[this.runs] = slot;
    this.sequences[this.runs] = 1;
    this.newTokens[this.runs++] = newTokens;
  }
}
