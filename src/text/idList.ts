/** A growing Int32Array. */
export class IdList {
  #ids = new Int32Array(1024);
  #length = 0;

  /** @param most above it the list is full, which nothing but `full` tells. */
  constructor(private readonly most = Number.POSITIVE_INFINITY) {}

  get full(): boolean {
    return this.#length > this.most;
  }

  push(id: number): void {
    if (this.#length === this.#ids.length) {
      const larger = new Int32Array(2 * this.#length);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#length++] = id;
  }

  toArray(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }
}
