import type { Decoder } from '../../model/decoder';

/**
 * The slots of a decoder's cache. A sequence that has ended leaves its tokens in its slot, until the slot is needed: one
 * that begins alike takes over what they have in common, without computing it again.
 */
export class Slots {
  /** By slot: null while taken, else when it was given back. */
  readonly #freeSince: (number | null)[];
  #clock = 0;

  constructor(private readonly decoder: Decoder) {
    this.#freeSince = new Array(decoder.slots).fill(0);
  }

  /**
   * A free slot for a sequence that begins with `ids`, holding as many of them as some slot does, but not the last one,
   * whose logits are needed; length(slot) says how many.
   * @throws RangeError when none is free.
   */
  take(ids: Int32Array): number {
    const { decoder } = this;
    const [source, shared] = this.#longestPrefix(ids);
    // In place only where little else is lost: what several requests begin with, such as instructions, stays.
    const inPlace = this.#freeSince[source] !== null && 2 * shared >= decoder.length(source);
    const slot = inPlace ? source : this.#oldest();
    if (slot === source) decoder.truncate(slot, shared);
    else decoder.copyPrefix(source, slot, shared);
    this.#freeSince[slot] = null;
    return slot;
  }

  /** An empty slot. @throws RangeError when none is free. */
  takeEmpty(): number {
    const slot = this.#oldest();
    this.decoder.truncate(slot, 0);
    this.#freeSince[slot] = null;
    return slot;
  }

  give(slot: number): void {
    this.#freeSince[slot] = ++this.#clock;
  }

  /** Tokens in all slots. */
  get tokens(): number {
    let sum = 0;
    for (let slot = 0; slot < this.decoder.slots; slot++) sum += this.decoder.length(slot);
    return sum;
  }

  /** The slot that begins with most of `ids`, taken or not, free ones first, and how many. */
  #longestPrefix(ids: Int32Array): [slot: number, length: number] {
    let best = this.#oldest();
    let longest = 0;
    for (let slot = 0; slot < this.decoder.slots; slot++) {
      const length = Math.min(this.decoder.commonPrefix(slot, ids), ids.length - 1);
      const isFreer = this.#freeSince[slot] !== null && this.#freeSince[best] === null;
      if (length > longest || (length === longest && length > 0 && isFreer)) {
        best = slot;
        longest = length;
      }
    }
    return [best, longest];
  }

  /** The free slot that has been so for longest; empty ones first. */
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
