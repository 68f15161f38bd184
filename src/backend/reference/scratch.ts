/**
 * Working memory of a kernel: a float64 buffer that is kept and grown over calls, so that a steady training step
 * allocates nothing. A buffer is only valid during the call that took it.
 */
export class Scratch {
  private buffer = new Float64Array(0);

  /** A buffer of at least `length` elements with unspecified contents. */
  take(length: number): Float64Array {
    if (this.buffer.length < length) this.buffer = new Float64Array(Math.ceil(length * 1.25));
    return this.buffer;
  }

  /** The same buffer with its first `length` elements set to 0. */
  zeros(length: number): Float64Array {
    return this.take(length).fill(0, 0, length);
  }
}
