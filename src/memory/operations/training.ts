import type { Kernels } from '../../backend/kernels';
import type { IndexView, MatrixView } from '../matrixView';

/**
 * Returns the sum of the cross-entropies of logits [T,V] and writes each to losses [T], 0 where the target [T] is
 * ignoreIndex. With a gradScale, logits become gradScale times their gradient.
 */
export function crossEntropy(
  k: Kernels,
  logits: MatrixView,
  targets: IndexView,
  losses: MatrixView,
  ignoreIndex: number,
  gradScale: number | null,
): number {
  const { data: x, at: xAt, rows, cols } = logits;
  const { data: ids, at: idsAt } = targets;
  const { data: out, at: outAt } = losses;
  const factor = gradScale ?? 1;
  return k.crossEntropy(x, xAt, ids, idsAt, out, outAt, rows, cols, ignoreIndex, factor, gradScale !== null);
}

/** Weights with their gradients and moments. */
export interface AdamWBuffers {
  param: Float32Array;
  grad: Float32Array;
  m: Float32Array;
  v: Float32Array;
}

/** The numbers of an update, the same for every weight; biasCorrectionI = 1 - betaI^t. */
export interface AdamWStep {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly biasCorrection1: number;
  readonly biasCorrection2: number;
  readonly gradScale: number;
}

/** Where the elements of an update begin in weights, gradients and both moments. */
export interface AdamWPlaces {
  readonly param: number;
  readonly grad: number;
  readonly moment: number;
}

/** Updates `size` elements of the weights. */
export function adamw(
  kernels: Kernels,
  { param, grad, m, v }: AdamWBuffers,
  at: AdamWPlaces,
  size: number,
  step: AdamWStep,
  decay: number,
): void {
  const { lr, beta1, beta2, eps, biasCorrection1: c1, biasCorrection2: c2, gradScale } = step;
  kernels.adamw(
    param,
    at.param,
    grad,
    at.grad,
    m,
    at.moment,
    v,
    at.moment,
    size,
    lr,
    beta1,
    beta2,
    eps,
    decay,
    c1,
    c2,
    gradScale,
  );
}
