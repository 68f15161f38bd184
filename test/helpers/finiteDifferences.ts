import { expect } from 'vitest';

/** Step of the central difference in float64: truncation h^2 and rounding eps/h are both near 1e-10 here. */
const STEP = 1e-5;

/**
 * Checks an analytic gradient against (f(x+h) - f(x-h)) / 2h at every element, or at `samples` spread ones.
 * The bound is relative to the gradient's largest element: 1e-7 leaves a factor of 100 over truncation and rounding,
 * and is far below any wrong term.
 */
export function checkGradient(
  what: string,
  values: Float32Array,
  gradient: ArrayLike<number>,
  evaluate: () => number,
  samples = values.length,
  bound = 1e-7,
): void {
  const stride = Math.max(1, Math.floor(values.length / samples));
  let scale = 1e-3;
  for (let i = 0; i < gradient.length; i++) scale = Math.max(scale, Math.abs(gradient[i]));
  for (let i = 0; i < values.length; i += stride) {
    const kept = values[i];
    values[i] = kept + STEP;
    const plus = evaluate();
    values[i] = kept - STEP;
    const minus = evaluate();
    values[i] = kept;
    const numeric = (plus - minus) / (2 * STEP);
    const error = Math.abs(numeric - gradient[i]) / scale;
    expect(error, `${what}[${i}]: analytic ${gradient[i]}, numeric ${numeric}`).toBeLessThan(bound);
  }
}

/** sum_i u_i y_i: a loss whose gradient is the random upstream u. */
export function dot(u: ArrayLike<number>, y: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < u.length; i++) total += u[i] * y[i];
  return total;
}
