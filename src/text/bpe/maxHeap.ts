/**
 * A binary max-heap of pairs with the counts that they had when pushed. The highest count comes first, among equal counts
 * the lowest key.
 */
export class MaxHeap {
  readonly #counts: number[] = [];
  readonly #keys: number[] = [];

  get size(): number {
    return this.#keys.length;
  }

  push(key: number, count: number): void {
    let at = this.#keys.length;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!comesFirst(count, key, this.#counts[parent], this.#keys[parent])) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#counts[at] = count;
    this.#keys[at] = key;
  }

  /** Removes and returns the first entry; undefined if the heap is empty. */
  pop(): { key: number; count: number } | undefined {
    if (this.#keys.length === 0) return undefined;
    const first = { key: this.#keys[0], count: this.#counts[0] };
    const key = this.#keys.pop()!;
    const count = this.#counts.pop()!;
    if (this.#keys.length > 0) this.#sink(key, count);
    return first;
  }

  /** Puts an entry in place of the root and moves it down to its place. */
  #sink(key: number, count: number): void {
    const keys = this.#keys;
    const counts = this.#counts;
    let at = 0;
    for (let child = 1; child < keys.length; child = 2 * at + 1) {
      const right = child + 1;
      if (right < keys.length && comesFirst(counts[right], keys[right], counts[child], keys[child])) {
        child = right;
      }
      if (!comesFirst(counts[child], keys[child], count, key)) break;
      this.#move(child, at);
      at = child;
    }
    keys[at] = key;
    counts[at] = count;
  }

  #move(from: number, to: number): void {
    this.#counts[to] = this.#counts[from];
    this.#keys[to] = this.#keys[from];
  }
}

function comesFirst(count: number, key: number, otherCount: number, otherKey: number): boolean {
  return count > otherCount || (count === otherCount && key < otherKey);
}
