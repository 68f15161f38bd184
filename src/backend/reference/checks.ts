import type { Kernels } from '../kernels';
import { forgetUses } from './areas';

/**
 * The argument checks of kernels.ts, in its order: every type, every integer, leading dimensions, lengths,
 * contents. Types and integers come from the signature and are checked by `checked`; a kernel's body starts
 * with the rest, one line for each argument. Sizes are doubles: a product beyond 2^53 is inexact but still
 * larger than any array, so every comparison below decides right.
 */
export type KernelName = Exclude<
  keyof Kernels,
  'info' | 'floatType' | 'memory' | 'setThreads' | 'alignmentPadding' | 'adviseHugePages'
>;

/**
 * A kernel and its arguments in order, `name:kind` separated by blanks; without a kind it is a size, an
 * integer in [0, 2^53). Kinds: flag, real, floats, floats? (or null), ints, int32 (any 32-bit integer), word
 * ([0, 2^32)).
 */
export interface Definition<F> {
  readonly signature: string;
  readonly run: F;
}

export type Definitions<N extends KernelName> = { readonly [K in N]: Definition<Kernels[K]> };

type Kind = 'size' | 'flag' | 'real' | 'floats' | 'floats?' | 'ints' | 'int32' | 'word';

interface Parameter {
  readonly name: string;
  readonly kind: Kind;
}

export type FloatType = 'float32' | 'float64';

const INTEGER_RANGES: Partial<Record<Kind, readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31],
  word: [0, 2 ** 32],
};

/** A function that checks the types and integers of its arguments, then calls `run`. */
export function checked<N extends KernelName>(
  kernel: N,
  definition: Definition<Kernels[N]>,
  floatType: FloatType,
): Kernels[N] {
  const parameters = parseSignature(definition.signature);
  const run = definition.run as (...values: unknown[]) => unknown;
  const guarded = (...values: unknown[]): unknown => {
    for (let i = 0; i < parameters.length; i++) checkType(kernel, parameters[i], values[i], floatType);
    for (let i = 0; i < parameters.length; i++) checkInteger(kernel, parameters[i], values[i]);
    forgetUses();
    return run(...values);
  };
  return guarded as Kernels[N];
}

function parseSignature(signature: string): Parameter[] {
  return signature
    .trim()
    .split(/\s+/)
    .map((word) => {
      const [name, kind = 'size'] = word.split(':');
      return { name, kind: kind as Kind };
    });
}

export function checkType(kernel: string, parameter: Parameter, value: unknown, floatType: FloatType): void {
  const { name, kind } = parameter;
  if (kind === 'flag') {
    if (typeof value !== 'boolean') throw wrongType(kernel, name, 'a boolean', value);
  } else if (kind === 'ints') {
    if (arrayType(value) !== 'Int32Array') throw wrongType(kernel, name, 'an Int32Array', value);
  } else if (kind === 'floats' || kind === 'floats?') {
    if (kind === 'floats?' && value === null) return;
    const expected = floatType === 'float32' ? 'Float32Array' : 'Float64Array';
    const orNull = kind === 'floats?' ? ' or null' : '';
    if (arrayType(value) !== expected) throw wrongType(kernel, name, `a ${expected}${orNull}`, value);
  } else if (typeof value !== 'number') {
    throw wrongType(kernel, name, 'a number', value);
  }
}

/** The name of a typed array's type, also for one from another realm; '' for anything else. */
function arrayType(value: unknown): string {
  return ArrayBuffer.isView(value) ? (value as Float32Array)[Symbol.toStringTag] : '';
}

function wrongType(kernel: string, name: string, expected: string, value: unknown): TypeError {
  const got = value === null ? 'null' : arrayType(value) || typeof value;
  return new TypeError(`${kernel}: ${name} must be ${expected}, got ${got}`);
}

function checkInteger(kernel: string, parameter: Parameter, value: unknown): void {
  const { name, kind } = parameter;
  if (kind === 'size') {
    if (!(Number.isSafeInteger(value) && (value as number) >= 0)) {
      throw new RangeError(`${kernel}: ${name} must be an integer >= 0, got ${value}`);
    }
    return;
  }
  const range = INTEGER_RANGES[kind];
  if (range) requireInteger(kernel, name, value as number, range[0], range[1]);
}

/** Checks that `value` is an integer in [low, end). */
export function requireInteger(kernel: string, name: string, value: number, low: number, end: number): void {
  if (Number.isInteger(value) && value >= low && value < end) return;
  throw new RangeError(`${kernel}: ${name} must be an integer in [${low}, ${end}), got ${value}`);
}

/** Checks that a leading dimension covers the columns of its matrix. */
export function requireLd(kernel: string, name: string, ld: number, columns: number): void {
  if (ld < columns) throw new RangeError(`${kernel}: ${name} must be >= ${columns}, got ${ld}`);
}

/** Checks that each of the `count` indices from `offset` is in [0, bound) or equal to `except`. */
export function requireIndices(
  kernel: string,
  name: string,
  indices: Int32Array,
  offset: number,
  count: number,
  bound: number,
  except?: number,
): void {
  for (let i = 0; i < count; i++) {
    const index = indices[offset + i];
    if ((index < 0 || index >= bound) && index !== except) {
      throw new RangeError(`${kernel}: ${name}[${i}] is ${index}, must be in [0, ${bound})`);
    }
  }
}

/** Checks that each of the `count` values from `offset` is >= 0. */
export function requireNonNegative(
  kernel: string,
  name: string,
  values: Int32Array,
  offset: number,
  count: number,
): void {
  for (let i = 0; i < count; i++) {
    if (values[offset + i] < 0) {
      throw new RangeError(`${kernel}: ${name}[${i}] is ${values[offset + i]}, must be >= 0`);
    }
  }
}

/** Checks that the `groups + 1` row starts from `offset` are >= 0 and never decrease. */
export function requireRowStarts(
  kernel: string,
  name: string,
  rowStarts: Int32Array,
  offset: number,
  groups: number,
): void {
  let least = 0;
  for (let g = 0; g <= groups; g++) {
    const start = rowStarts[offset + g];
    if (start < least) throw new RangeError(`${kernel}: ${name}[${g}] is ${start}, must be >= ${least}`);
    least = start;
  }
}
