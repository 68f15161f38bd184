/**
 * What products by weight matrices multiply. 'bfloat16' is mixed precision (Micikevicius et al. 2018): both operands are rounded
 * to bfloat16 (8 significant bits, the exponents of float32) and their products summed in float32, in the forward, for the gradients
 * of activations and for those of weights. Weights, gradients, moments, activations in memory, routers, norms, attention, softmax
 * and loss stay float32, so do adapters, and matrices that are kept as they are stored.
 */
export type Precision = 'float32' | 'bfloat16';

export const PRECISIONS = ['float32', 'bfloat16'] as const satisfies readonly Precision[];

/** Tokens from which a matrix unit pays (kTiledRows in native/stored.cc): fewer wait for the weights to be read, whatever multiplies. */
const LEAST_ROUNDED = 32;

/** The precision of products of `tokens` rows where mixed precision is for prompts: few rows, as in decoding, stay float32. */
export function promptPrecision(precision: Precision, tokens: number): Precision {
  return tokens < LEAST_ROUNDED ? 'float32' : precision;
}

/** @throws TypeError unless it is undefined, for the default, or a precision. */
export function checkPrecision(what: string, value: unknown): void {
  if (value === undefined || PRECISIONS.includes(value as Precision)) return;
  throw new TypeError(`${what}: precision must be 'float32' or 'bfloat16', got ${String(value)}`);
}
