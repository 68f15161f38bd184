import type { Kernels } from '../backend/kernels';

const SCRATCH = new WeakMap<Kernels, Float32Array>();

/** Memory for `n` logits, which all choices made with the same kernels share. No content is kept for the next choice. */
export function scratchLogits(kernels: Kernels, n: number): Float32Array {
  let logits = SCRATCH.get(kernels);
  if (logits === undefined || logits.length < n) {
    logits = new Float32Array(n);
    SCRATCH.set(kernels, logits);
  }
  return logits;
}
