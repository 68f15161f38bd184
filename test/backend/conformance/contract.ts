import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Kernels } from '../../../src/backend/kernels';

/** A kernel of src/backend/kernels.ts and its parameters, read from the sources: the contract itself. */
export interface Signature {
  readonly kernel: KernelName;
  readonly parameters: readonly Parameter[];
}

export interface Parameter {
  readonly name: string;
  readonly type:
    | 'Float32Array'
    | 'Float32Array | null'
    | 'Int32Array'
    | 'Uint8Array'
    | 'StoredMatrices'
    | 'StorageType'
    | 'number'
    | 'boolean';
}

export type KernelName = Exclude<keyof Kernels, 'info' | 'floatType' | 'memory'>;

const BACKEND = join(__dirname, '../../../src/backend');

/** The declarations of all kernels: kernels.ts, and the interfaces in kernels/ that it extends; without comments. */
export function readContract(): string {
  const parts = readdirSync(join(BACKEND, 'kernels')).map((name) => join(BACKEND, 'kernels', name));
  return [join(BACKEND, 'kernels.ts'), ...parts]
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n')
    .replace(/\/\*\*[\s\S]*?\*\//g, '')
    .replace(/\/\/.*/g, '');
}

export function readSignatures(): Signature[] {
  return [...readContract().matchAll(/^ {2}(\w+)\(([^)]*)\):/gm)].map(([, kernel, list]) => ({
    kernel: kernel as KernelName,
    parameters: list
      .split(',')
      .map((item) => item.trim())
      .filter(Boolean)
      .map((item) => {
        const [name, type] = item.split(': ');
        return { name, type: type as Parameter['type'] };
      }),
  }));
}

/** Parameters that may be any double; every other number is an integer. */
export const REALS: ReadonlySet<string> = new Set([
  'alpha',
  'beta',
  'eps',
  'factor',
  'gradScale',
  'auxScale',
  'zScale',
  'lr',
  'beta1',
  'beta2',
  'weightDecay',
  'biasCorrection1',
  'biasCorrection2',
  'std',
]);

/** `scale` is a number of attention, not an integer; as a kernel it has a `factor`. */
export function isReal(name: string): boolean {
  return REALS.has(name) || name === 'scale';
}

/** Integers with their own ranges: a 32-bit integer, and 32-bit words. */
export const RANGED: ReadonlySet<string> = new Set([
  'ignoreIndex',
  'seedLow',
  'seedHigh',
  'stream',
  'threads',
]);

/** The arrays that a kernel writes; it reads the others. */
export const WRITTEN: Partial<Record<KernelName, readonly string[]>> = {
  sgemm: ['c'],
  sgemmBatch: ['c'],
  sgemmGrouped: ['c'],
  sgemmGroupedTransA: ['c'],
  gemmBfloat16: ['c'],
  gemmBfloat16Grouped: ['c'],
  gemmBfloat16GroupedTransA: ['c'],
  packWeights: ['packed'],
  sgemmPacked: ['c'],
  sgemmGroupedPacked: ['c'],
  multiplyStored: ['y'],
  multiplyStoredGroups: ['y'],
  gatherStored: ['out'],
  quantize: ['bytes'],
  dequantize: ['out'],
  exp: ['y'],
  silu: ['y'],
  softmaxForward: ['y'],
  softmaxBackward: ['dx'],
  rmsNormForward: ['y', 'invRms'],
  rmsNormBackward: ['dx', 'dGamma'],
  swigluForward: ['y'],
  swigluBackward: ['dGateUp'],
  rope: ['x'],
  attentionForward: ['out', 'lse'],
  attentionForwardStored: ['out', 'lse'],
  attentionBackward: ['dq', 'dk', 'dv'],
  routeForward: [
    'probs',
    'lse',
    'topkIndices',
    'topkWeights',
    'rowStarts',
    'slotToToken',
    'tokenToSlots',
    'probMeans',
  ],
  routeBackward: ['dLogits'],
  gatherRows: ['dst'],
  scatterAddRows: ['y'],
  scatterAddRowsBackward: ['dx', 'dWeights'],
  embeddingBackward: ['dTable'],
  sampleRows: ['tokens'],
  crossEntropy: ['logits', 'losses'],
  scale: ['x'],
  axpy: ['y'],
  adamw: ['param', 'm', 'v'],
  randomNormal: ['out'],
};

/** What kernels.ts calls "in place": an output that may be an input, from the first element on. */
export const IN_PLACE: readonly (readonly [KernelName, string, string])[] = [
  ['exp', 'y', 'x'],
  ['silu', 'y', 'x'],
  ['softmaxForward', 'y', 'x'],
  ['softmaxBackward', 'dx', 'dy'],
  ['rmsNormForward', 'y', 'x'],
  ['rmsNormBackward', 'dx', 'dy'],
  ['swigluBackward', 'dGateUp', 'gateUp'],
  ['scatterAddRowsBackward', 'dx', 'x'],
];
