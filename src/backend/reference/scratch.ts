/**
 * Working memory of the kernels: float64, kept and grown over calls, so that a steady training step allocates
 * nothing. Each kernel takes the buffers it needs by its own name; a call never outlives its buffers.
 */
export class Scratch {
  private buffer = new Float64Array(0);

  /** At least `length` elements, with whatever the last call left in them. */
  take(length: number): Float64Array {
    if (this.buffer.length < length) this.buffer = new Float64Array(Math.ceil(length * 1.25));
    return this.buffer;
  }

  /** The same, the first `length` elements 0. */
  zeros(length: number): Float64Array {
    return this.take(length).fill(0, 0, length);
  }
}
