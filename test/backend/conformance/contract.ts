import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Kernels } from '../../../src/backend/kernels';
import type { StoredMatrices } from '../../../src/backend/kernels/stored';
import { type StorageType, storedBytes } from '../../../src/base/storageTypes';

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

/** Matrices that each backend makes for itself, as an argument in `VALID`. */
export class Stored {
  constructor(
    readonly type: StorageType,
    readonly rows: number,
    readonly cols: number,
    readonly count: number,
  ) {}

  /** A matrix with 0.5 in every element. */
  make(kernels: Kernels): StoredMatrices {
    const { type, rows, cols, count } = this;
    const bytes = new Uint8Array(rows * storedBytes(type, cols));
    kernels.quantize(type, rows, cols, new Float32Array(rows * cols).fill(0.5), 0, cols, bytes, 0);
    return kernels.storedMatrices(type, rows, cols, Array(count).fill(bytes));
  }
}

/** The arguments of a call, with the backend's own matrices. */
export function argumentsOf(
  kernels: Kernels,
  { parameters }: Signature,
  values: Record<string, unknown>,
): unknown[] {
  return parameters.map(({ name }) => {
    const value = values[name];
    return value instanceof Stored ? value.make(kernels) : value;
  });
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

const floats = (n: number): Float32Array => new Float32Array(n).fill(0.5);
const ints = (...values: number[]): Int32Array => new Int32Array(values);

/**
 * Valid arguments of each kernel, by name. Every array is exactly as long as it must be, every leading
 * dimension and stride as small as it may be, so that one less, or one more row, is an error.
 */
export const VALID: Record<
  Exclude<KernelName, 'setThreads' | 'storedMatrices'>,
  () => Record<string, unknown>
> = {
  alignmentPadding: () => ({ x: floats(4) }),
  adviseHugePages: () => ({ x: floats(4) }),
  sgemm: () => ({
    transA: false,
    transB: true,
    m: 2,
    n: 3,
    k: 4,
    alpha: 1,
    a: floats(8),
    aOffset: 0,
    lda: 4,
    b: floats(12),
    bOffset: 0,
    ldb: 4,
    beta: 1,
    c: floats(6),
    cOffset: 0,
    ldc: 3,
  }),
  sgemmBatch: () => ({
    transA: true,
    transB: false,
    m: 2,
    n: 3,
    k: 4,
    alpha: 1,
    a: floats(16),
    aOffset: 0,
    lda: 2,
    strideA: 8,
    b: floats(24),
    bOffset: 0,
    ldb: 3,
    strideB: 12,
    beta: 1,
    c: floats(12),
    cOffset: 0,
    ldc: 3,
    strideC: 6,
    batch: 2,
  }),
  sgemmGrouped: () => ({
    transB: true,
    groups: 2,
    rowStarts: ints(0, 1, 3),
    rowStartsOffset: 0,
    n: 3,
    k: 4,
    alpha: 1,
    a: floats(12),
    aOffset: 0,
    lda: 4,
    b: floats(24),
    bOffset: 0,
    ldb: 4,
    strideB: 12,
    beta: 1,
    c: floats(9),
    cOffset: 0,
    ldc: 3,
  }),
  sgemmGroupedTransA: () => ({
    groups: 2,
    rowStarts: ints(0, 1, 3),
    rowStartsOffset: 0,
    m: 4,
    n: 3,
    alpha: 1,
    a: floats(12),
    aOffset: 0,
    lda: 4,
    b: floats(9),
    bOffset: 0,
    ldb: 3,
    beta: 1,
    c: floats(24),
    cOffset: 0,
    ldc: 3,
    strideC: 12,
  }),
  // At n = 16 every layout is as long as the matrix itself.
  packedSize: () => ({ n: 16, k: 4 }),
  packWeights: () => ({
    b: floats(128),
    bOffset: 0,
    ldb: 4,
    strideB: 64,
    groups: 2,
    n: 16,
    k: 4,
    packed: floats(128),
    packedOffset: 0,
  }),
  sgemmPacked: () => ({
    m: 2,
    n: 16,
    k: 4,
    alpha: 1,
    a: floats(8),
    aOffset: 0,
    lda: 4,
    packed: floats(64),
    packedOffset: 0,
    beta: 1,
    c: floats(32),
    cOffset: 0,
    ldc: 16,
  }),
  sgemmGroupedPacked: () => ({
    groups: 2,
    rowStarts: ints(0, 1, 3),
    rowStartsOffset: 0,
    n: 16,
    k: 4,
    alpha: 1,
    a: floats(12),
    aOffset: 0,
    lda: 4,
    packed: floats(128),
    packedOffset: 0,
    beta: 1,
    c: floats(48),
    cOffset: 0,
    ldc: 16,
  }),
  multiplyStored: () => ({
    matrices: new Stored('q8_0', 3, 32, 2),
    index: 1,
    m: 2,
    alpha: 1,
    x: floats(64),
    xOffset: 0,
    ldx: 32,
    beta: 1,
    y: floats(6),
    yOffset: 0,
    ldy: 3,
  }),
  multiplyStoredGroups: () => ({
    matrices: new Stored('q4_0', 3, 32, 2),
    rowStarts: ints(0, 1, 3),
    rowStartsOffset: 0,
    alpha: 1,
    x: floats(96),
    xOffset: 0,
    ldx: 32,
    beta: 1,
    y: floats(9),
    yOffset: 0,
    ldy: 3,
  }),
  gatherStored: () => ({
    matrices: new Stored('q5_1', 3, 32, 2),
    index: 1,
    count: 2,
    ids: ints(2, 1),
    idsOffset: 0,
    out: floats(64),
    outOffset: 0,
    ldOut: 32,
  }),
  quantize: () => ({
    type: 'q4_0',
    rows: 2,
    cols: 32,
    x: floats(64),
    xOffset: 0,
    ldx: 32,
    bytes: new Uint8Array(36),
    bytesOffset: 0,
  }),
  dequantize: () => ({
    type: 'q4_1',
    rows: 2,
    cols: 32,
    bytes: new Uint8Array(40).fill(1),
    bytesOffset: 0,
    out: floats(64),
    outOffset: 0,
    ldOut: 32,
  }),
  exp: () => ({ x: floats(5), xOffset: 0, y: floats(5), yOffset: 0, n: 5 }),
  silu: () => ({ x: floats(5), xOffset: 0, y: floats(5), yOffset: 0, n: 5 }),
  softmaxForward: () => ({ x: floats(6), xOffset: 0, y: floats(6), yOffset: 0, rows: 2, cols: 3 }),
  softmaxBackward: () => ({
    y: floats(6),
    yOffset: 0,
    dy: floats(6),
    dyOffset: 0,
    dx: floats(6),
    dxOffset: 0,
    rows: 2,
    cols: 3,
  }),
  rmsNormForward: () => ({
    x: floats(6),
    xOffset: 0,
    ldx: 3,
    gamma: floats(3),
    gammaOffset: 0,
    y: floats(6),
    yOffset: 0,
    ldy: 3,
    invRms: floats(2),
    invRmsOffset: 0,
    rows: 2,
    cols: 3,
    eps: 1e-6,
  }),
  rmsNormBackward: () => ({
    x: floats(6),
    xOffset: 0,
    ldx: 3,
    gamma: floats(3),
    gammaOffset: 0,
    invRms: floats(2),
    invRmsOffset: 0,
    dy: floats(6),
    dyOffset: 0,
    lddy: 3,
    dx: floats(6),
    dxOffset: 0,
    lddx: 3,
    accumulateDx: true,
    dGamma: floats(3),
    dGammaOffset: 0,
    rows: 2,
    cols: 3,
  }),
  swigluForward: () => ({ gateUp: floats(12), gateUpOffset: 0, y: floats(6), yOffset: 0, rows: 2, ffn: 3 }),
  swigluBackward: () => ({
    gateUp: floats(12),
    gateUpOffset: 0,
    dy: floats(6),
    dyOffset: 0,
    dGateUp: floats(12),
    dGateUpOffset: 0,
    rows: 2,
    ffn: 3,
  }),
  rope: () => ({
    x: floats(16),
    xOffset: 0,
    ldx: 8,
    cos: floats(10),
    cosOffset: 0,
    sin: floats(10),
    sinOffset: 0,
    maxPositions: 5,
    positions: ints(4, 0),
    positionsOffset: 0,
    rows: 2,
    nHeads: 2,
    headDim: 4,
    inverse: false,
  }),
  attentionForward: () => ({ ...attentionArguments() }),
  attentionBackward: () => ({
    ...attentionArguments(),
    dOut: floats(16),
    dOutOffset: 0,
    dq: floats(16),
    dqOffset: 0,
    dk: floats(12),
    dkOffset: 0,
    dv: floats(12),
    dvOffset: 0,
  }),
  routeForward: () => ({
    logits: floats(12),
    logitsOffset: 0,
    bias: floats(4),
    biasOffset: 0,
    probs: floats(12),
    probsOffset: 0,
    lse: floats(3),
    lseOffset: 0,
    topkIndices: ints(0, 0, 0, 0, 0, 0),
    topkIndicesOffset: 0,
    topkWeights: floats(6),
    topkWeightsOffset: 0,
    rowStarts: ints(0, 0, 0, 0, 0),
    rowStartsOffset: 0,
    slotToToken: ints(0, 0, 0, 0, 0, 0),
    slotToTokenOffset: 0,
    tokenToSlots: ints(0, 0, 0, 0, 0, 0),
    tokenToSlotsOffset: 0,
    probMeans: floats(4),
    probMeansOffset: 0,
    tokens: 3,
    nExperts: 4,
    topK: 2,
    renormalise: true,
  }),
  routeBackward: () => ({
    probs: floats(12),
    probsOffset: 0,
    lse: floats(3),
    lseOffset: 0,
    topkIndices: ints(0, 3, 1, 2, 3, 0),
    topkIndicesOffset: 0,
    topkWeights: floats(6),
    topkWeightsOffset: 0,
    dTopkWeights: floats(6),
    dTopkWeightsOffset: 0,
    rowStarts: ints(0, 2, 3, 4, 6),
    rowStartsOffset: 0,
    dLogits: floats(12),
    dLogitsOffset: 0,
    tokens: 3,
    nExperts: 4,
    topK: 2,
    renormalise: true,
    auxScale: 0.1,
    zScale: 0.1,
  }),
  gatherRows: () => ({
    src: floats(12),
    srcOffset: 0,
    srcRows: 4,
    indices: ints(3, 0),
    indicesOffset: 0,
    dst: floats(6),
    dstOffset: 0,
    rows: 2,
    cols: 3,
  }),
  scatterAddRows: () => ({
    x: floats(12),
    xOffset: 0,
    xRows: 4,
    slots: ints(0, 3, 2, 1),
    slotsOffset: 0,
    weights: floats(4),
    weightsOffset: 0,
    y: floats(6),
    yOffset: 0,
    tokens: 2,
    topK: 2,
    cols: 3,
  }),
  scatterAddRowsBackward: () => ({
    dy: floats(6),
    dyOffset: 0,
    x: floats(12),
    xOffset: 0,
    xRows: 4,
    slots: ints(0, 3, 2, 1),
    slotsOffset: 0,
    weights: floats(4),
    weightsOffset: 0,
    dx: floats(12),
    dxOffset: 0,
    dWeights: floats(4),
    dWeightsOffset: 0,
    tokens: 2,
    topK: 2,
    cols: 3,
  }),
  embeddingBackward: () => ({
    dy: floats(6),
    dyOffset: 0,
    ids: ints(0, 3),
    idsOffset: 0,
    dTable: floats(12),
    dTableOffset: 0,
    vocabSize: 4,
    tokens: 2,
    cols: 3,
  }),
  crossEntropy: () => ({
    logits: floats(8),
    logitsOffset: 0,
    targets: ints(0, 3),
    targetsOffset: 0,
    losses: floats(2),
    lossesOffset: 0,
    rows: 2,
    cols: 4,
    ignoreIndex: -100,
    gradScale: 1,
    writeGradient: true,
  }),
  sumSquares: () => ({ x: floats(5), xOffset: 0, n: 5 }),
  scale: () => ({ x: floats(5), xOffset: 0, n: 5, factor: 2 }),
  axpy: () => ({ n: 5, alpha: 2, x: floats(5), xOffset: 0, y: floats(5), yOffset: 0 }),
  adamw: () => ({
    param: floats(5),
    paramOffset: 0,
    grad: floats(5),
    gradOffset: 0,
    m: floats(5),
    mOffset: 0,
    v: floats(5),
    vOffset: 0,
    n: 5,
    lr: 1,
    beta1: 0.9,
    beta2: 0.9,
    eps: 1e-8,
    weightDecay: 0.1,
    biasCorrection1: 0.1,
    biasCorrection2: 0.1,
    gradScale: 1,
  }),
  randomNormal: () => ({ out: floats(5), outOffset: 0, n: 5, seedLow: 1, seedHigh: 2, stream: 3, std: 1 }),
};

/** The arrays that a kernel writes; it reads the others. */
export const WRITTEN: Partial<Record<KernelName, readonly string[]>> = {
  sgemm: ['c'],
  sgemmBatch: ['c'],
  sgemmGrouped: ['c'],
  sgemmGroupedTransA: ['c'],
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

function attentionArguments(): Record<string, unknown> {
  return {
    q: floats(16),
    qOffset: 0,
    ldq: 4,
    k: floats(12),
    kOffset: 0,
    ldk: 2,
    kBatchStride: 6,
    v: floats(12),
    vOffset: 0,
    ldv: 2,
    vBatchStride: 6,
    out: floats(16),
    outOffset: 0,
    ldo: 4,
    lse: floats(8),
    lseOffset: 0,
    queryStarts: ints(1, 0),
    queryStartsOffset: 0,
    kvLengths: ints(2, 3),
    kvLengthsOffset: 0,
    batch: 2,
    queryLen: 2,
    nHeads: 2,
    nKvHeads: 1,
    headDim: 2,
    scale: 0.5,
  };
}
