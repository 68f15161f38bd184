import type { Decoder } from '../../model/decoder';
import type { Lora } from '../../model/lora';

/**
 * The slots of a decoder's cache. The tokens of an ended sequence stay in its slot until the slot is needed. A new sequence
 * with the same beginning reuses the common tokens instead of computing them again.
 */
export class Slots {
  /** For each slot: null while it is taken, else when it was given back. */
  readonly #freeSince: (number | null)[];
  #clock = 0;

  constructor(private readonly decoder: Decoder) {
    this.#freeSince = new Array(decoder.slots).fill(0);
  }

  /**
   * Takes a free slot for a sequence that begins with `ids`, and fills it with the longest prefix of them that any slot
   * holds, computed with the same adapter. The last id is left out, since its logits are needed. length(slot) is the length of the prefix.
   * @throws RangeError when none is free.
   */
  take(ids: Int32Array, adapter: Lora | null): number {
    const { decoder } = this;
    const [source, shared] = this.#longestPrefix(ids, adapter);
    // A slot is reused in place only if little else in it is lost, so that common beginnings, such as instructions, stay.
    const inPlace = this.#freeSince[source] !== null && 2 * shared >= decoder.length(source);
    const slot = inPlace ? source : this.#oldest();
    if (slot === source) decoder.truncate(slot, shared);
    else decoder.copyPrefix(source, slot, shared);
    this.#freeSince[slot] = null;
    return slot;
  }

  /** Takes a free slot and empties it. @throws RangeError when none is free. */
  takeEmpty(): number {
    const slot = this.#oldest();
    this.decoder.truncate(slot, 0);
    this.#freeSince[slot] = null;
    return slot;
  }

  give(slot: number): void {
    this.#freeSince[slot] = ++this.#clock;
  }

  /** Forgets what was computed with an adapter that goes. */
  forget(adapter: Lora): void {
    const { decoder } = this;
    for (let slot = 0; slot < decoder.slots; slot++) {
      if (decoder.adapterOf(slot) === adapter) decoder.truncate(slot, 0);
    }
  }

  /** Number of tokens in all slots. */
  get tokens(): number {
    let sum = 0;
    for (let slot = 0; slot < this.decoder.slots; slot++) sum += this.decoder.length(slot);
    return sum;
  }

  /** Length of the longest prefix of `ids` that a slot holds for this adapter. */
  heldPrefix(ids: Int32Array, adapter: Lora | null): number {
    let longest = 0;
    for (let slot = 0; slot < this.decoder.slots; slot++) {
      longest = Math.max(longest, this.decoder.commonPrefix(slot, ids, adapter));
    }
    return longest;
  }

  /** The slot (taken or free, free ones preferred) with the longest common prefix with `ids`, and the prefix's length. */
  #longestPrefix(ids: Int32Array, adapter: Lora | null): [slot: number, length: number] {
    let best = this.#oldest();
    let longest = 0;
    for (let slot = 0; slot < this.decoder.slots; slot++) {
      const length = Math.min(this.decoder.commonPrefix(slot, ids, adapter), ids.length - 1);
      const isFreer = this.#freeSince[slot] !== null && this.#freeSince[best] === null;
      if (length > longest || (length === longest && length > 0 && isFreer)) {
        best = slot;
        longest = length;
      }
    }
    return [best, longest];
  }

  /** The slot that has been free the longest; empty ones come first. */
  #oldest(): number {
    let oldest = -1;
    let since = Number.POSITIVE_INFINITY;
    for (let slot = 0; slot < this.#freeSince.length; slot++) {
      const given = this.#freeSince[slot];
      if (given === null) continue;
      const age = this.decoder.length(slot) === 0 ? -1 : given;
      if (age < since) {
        oldest = slot;
        since = age;
      }
    }
    if (oldest < 0) throw new RangeError('no slot is free');
    return oldest;
  }
}
