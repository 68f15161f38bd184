import {
  isStorageType,
  STORAGE_TYPE_NAMES,
  STORAGE_TYPES,
  type StorageType,
  storedBytes,
} from '../../base/storageTypes';
import type { Kernels } from '../kernels';
import type { StoredMatrices } from '../kernels/stored';
import { forgetUses } from './areas';

/**
 * The argument checks of kernels.ts, in its order: every type, every integer, leading dimensions, lengths,
 * contents. Types and integers come from the signature and are checked by `checked`; a kernel's body starts
 * with the rest, one line for each argument. Sizes are doubles: a product beyond 2^53 is inexact but still
 * larger than any array, so every comparison below decides right.
 */
export type KernelName = Exclude<
  keyof Kernels,
  'info' | 'floatType' | 'memory' | 'setThreads' | 'alignmentPadding' | 'adviseHugePages' | 'storedMatrices'
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

type Kind =
  | 'size'
  | 'flag'
  | 'real'
  | 'floats'
  | 'floats?'
  | 'ints'
  | 'bytes'
  | 'type'
  | 'stored'
  | 'int32'
  | 'word';

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
  } else if (kind === 'bytes') {
    if (arrayType(value) !== 'Uint8Array') throw wrongType(kernel, name, 'a Uint8Array', value);
  } else if (kind === 'stored') {
    if (!(value instanceof ReferenceStored)) throw wrongType(kernel, name, 'a StoredMatrices', value);
  } else if (kind === 'type') {
    if (typeof value !== 'string') throw wrongType(kernel, name, 'a string', value);
  } else if (kind === 'floats' || kind === 'floats?') {
    if (kind === 'floats?' && value === null) return;
    const expected = floatType === 'float32' ? 'Float32Array' : 'Float64Array';
    const orNull = kind === 'floats?' ? ' or null' : '';
    if (arrayType(value) !== expected) throw wrongType(kernel, name, `a ${expected}${orNull}`, value);
  } else if (typeof value !== 'number') {
    throw wrongType(kernel, name, 'a number', value);
  }
}

/** What the reference makes of parts. */
export class ReferenceStored implements StoredMatrices {
  readonly count: number;
  constructor(
    readonly type: StorageType,
    readonly rows: number,
    readonly cols: number,
    readonly parts: readonly Uint8Array[],
  ) {
    this.count = parts.length;
  }
}

/** Checks the arguments of `storedMatrices`, for backends without an addon that does. */
export function checkParts(type: unknown, rows: unknown, cols: unknown, parts: unknown): ReferenceStored {
  const kernel = 'storedMatrices';
  const sizes: Parameter[] = [
    { name: 'rows', kind: 'size' },
    { name: 'cols', kind: 'size' },
  ];
  checkType(kernel, { name: 'type', kind: 'type' }, type, 'float32');
  for (const [i, size] of sizes.entries()) checkType(kernel, size, [rows, cols][i], 'float32');
  if (!Array.isArray(parts)) throw wrongType(kernel, 'parts', 'an array', parts);
  for (let i = 0; i < parts.length; i++) {
    checkType(kernel, { name: `parts[${i}]`, kind: 'bytes' }, parts[i], 'float32');
  }
  for (const [i, size] of sizes.entries()) checkInteger(kernel, size, [rows, cols][i]);
  const made = new ReferenceStored(requireStorageType(kernel, type), rows as number, cols as number, [
    ...parts,
  ]);
  requireWholeBlocks(kernel, made.type, made.cols);
  const bytes = made.rows * storedBytes(made.type, made.cols);
  for (const [i, part] of made.parts.entries()) {
    if (part.length < bytes) {
      throw new RangeError(`${kernel}: parts[${i}] is too short: needs ${bytes} bytes, has ${part.length}`);
    }
  }
  return made;
}

/** Checks the name of a storage type. */
export function requireStorageType(kernel: string, type: unknown): StorageType {
  if (isStorageType(type)) return type;
  throw new RangeError(`${kernel}: type must be one of ${STORAGE_TYPE_NAMES.join(', ')}, got '${type}'`);
}

/** Checks that rows of `cols` numbers, an argument called `name`, are whole blocks. */
export function requireWholeBlocks(kernel: string, type: StorageType, cols: number, name = 'cols'): void {
  const { elements } = STORAGE_TYPES[type];
  if (cols % elements !== 0) {
    throw new RangeError(`${kernel}: ${name} must be a multiple of ${elements}, got ${cols}`);
  }
}

/** The name of a typed array's type, also for one from another realm; '' for anything else. */
export function arrayType(value: unknown): string {
  return ArrayBuffer.isView(value) ? (value as Float32Array)[Symbol.toStringTag] : '';
}

/** The error for an argument of another type than `expected`, such as 'a number'. */
export function wrongType(kernel: string, name: string, expected: string, value: unknown): TypeError {
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
