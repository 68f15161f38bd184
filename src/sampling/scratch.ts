import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { Candidates } from './candidates';

/** Large temporary arrays of a choice; no content is kept for the next choice. */
export interface Scratch {
  candidates: Candidates;
  /** Logits with biases and penalties. */
  logits: Float32Array;
}

const SCRATCH = new WeakMap<Kernels, Scratch>();

/** The scratch that all choices made with the same kernels share. */
export function scratchOf(kernels: Kernels = getKernels()): Scratch {
  let scratch = SCRATCH.get(kernels);
  if (!scratch) {
    scratch = { candidates: new Candidates(kernels), logits: new Float32Array(0) };
    SCRATCH.set(kernels, scratch);
  }
  return scratch;
}
