import type { KernelMemory } from './kernelMemory';
import type { AttentionKernels } from './kernels/attention';
import type { MatmulKernels } from './kernels/matmul';
import type { MixtureKernels } from './kernels/mixture';
import type { RowKernels } from './kernels/rows';
import type { SamplingKernels } from './kernels/sampling';
import type { StoredKernels } from './kernels/stored';
import type { TrainingKernels } from './kernels/training';

/**
 * The one boundary between TypeScript and C++.
 *
 * Everything the model computes is a call of one of these functions, on typed arrays the caller owns.
 * `reference.ts` defines each of them in plain TypeScript; the addon (`native.ts`) must agree with it.
 *
 * Conventions
 * - Matrices are row-major. An array argument `x` is followed by `xOffset`, in elements. A matrix whose rows
 *   are not adjacent has a leading dimension (`ldx`, elements from one row to the next, >= its columns).
 * - Axis letters: B batch, S sequence, T = B*S tokens, H hidden, D head dim, E experts, K top-k, F ffn, V vocab.
 * - A function writes only what its documentation names. What it writes must not overlap anything else of the call; "in
 *   place", or "y may be x", allows that output to be that input, element by element (same offset and leading dimension).
 *   Matrices may interleave: in one buffer, columns beside each other of rows that are equally far apart.
 * - A dimension may be 0: nothing is read or written (except that a matmul over k = 0 is C = beta*C).
 * - Dimensions, offsets, strides: integers in [0, 2^53).
 *
 * Errors, the same from every backend, thrown before anything is written:
 * - `TypeError`  "<kernel>: <argument> must be a Float32Array, got <what>" (or Int32Array, Uint8Array, StoredMatrices, number,
 *   boolean, string)
 * - `RangeError` "<kernel>: <argument> must be an integer >= 0, got <value>" (also NaN, fractions, overflow)
 * - `RangeError` "<kernel>: <argument> is too short: needs <n> elements from offset <o>, has <length>"
 * - `RangeError` "<kernel>: <argument>[<i>] is <value>, must be in [0, <bound>)" for ids, slots, positions
 * - `RangeError` "<kernel>: type must be one of <names>, got '<value>'" for a storage type
 * - `RangeError` "<kernel>: <argument> must not overlap <argument>" when one of them is written
 * Arrays shared with another thread must not change while a call runs.
 */
export interface Kernels
  extends MatmulKernels,
    RowKernels,
    AttentionKernels,
    MixtureKernels,
    SamplingKernels,
    TrainingKernels,
    StoredKernels {
  /** What computes: backend, BLAS library, instruction set, threads. */
  readonly info: BackendInfo;

  /**
   * Element type of every float argument. 'float32' everywhere but in the reference's float64 form, which
   * exists so that finite differences can be taken on the very same model code.
   */
  readonly floatType: 'float32' | 'float64';

  /** Where the arrays lie that a model computes on. */
  readonly memory: KernelMemory;

  /** Sets the size of the thread pool, 1..256. Results don't depend on it. */
  setThreads(threads: number): void;

  /** Elements to skip from the start of `x` to the next address that is a multiple of 64 bytes. */
  alignmentPadding(x: Float32Array): number;

  /**
   * Asks the operating system for large pages behind `x` if it is at least 4 MiB long. It is a hint for a new buffer,
   * before its first touch, and does nothing where large pages don't exist. The contents stay.
   */
  adviseHugePages(x: Float32Array): void;
}

export type BackendName = 'reference' | 'wasm' | 'builtin' | 'openblas' | 'accelerate' | 'blas';

export type BackendRequest = 'auto' | BackendName;

/** The backend in use, and why it isn't a faster one. `sgemoe info` prints it. */
export interface BackendInfo {
  /**
   * 'reference' (pure TypeScript), 'wasm' (WebAssembly), 'builtin' (addon, own sgemm), 'openblas', 'accelerate', or 'blas'
   * (SGEMOE_BLAS).
   */
  readonly backend: BackendName;
  /**
   * What `createKernels` takes to compute like this in another thread. With 'auto', OpenBLAS multiplies only where it was
   * measured faster than the built-in kernels; a library that is asked for by name multiplies everything.
   */
  readonly request: BackendRequest;
  /** Operating system and processor, such as 'linux-x64'. */
  readonly platform: string;
  /** The BLAS library in use, null for 'reference', 'wasm' and 'builtin'. */
  readonly blas: BlasInfo | null;
  /**
   * 'baseline' (SSE2), 'avx2', 'avx512', 'neon', for stored matrices also 'avxvnni', 'avx512vnni', 'neondot' and 'neoni8mm'; 'simd128' or 'relaxed-simd' of
   * WebAssembly; 'none' for the reference backend.
   */
  readonly instructionSet: string;
  /** Size of the thread pool. In WebAssembly each thread that computes has one, and this is the size of each. */
  readonly threads: number;
  /**
   * Whether products by block types take the activations as they are; false where they are rounded to 8 bits, or to bfloat16 for a
   * matrix unit, because that is faster (`StoredKernels`). SGEMOE_EXACT=1 makes it true.
   */
  readonly exactProducts: boolean;
  /**
   * What multiplies bfloat16 by bfloat16 in mixed precision: 'amx' (Intel's matrix unit, on Linux), the instructions 'vdpbf16ps' (AMD,
   * from Zen 4 on) or 'bfmmla' (Arm, from Armv8.6 on, on Linux and macOS); 'none': float32 multiply-adds; 'model' and
   * 'pairsModel', which tests ask for. AMX also multiplies many rows by matrices stored in bfloat16 and in blocks.
   * SGEMOE_MATMUL=fma leaves it unused.
   */
  readonly matrixUnit: 'none' | 'amx' | 'vdpbf16ps' | 'bfmmla' | 'model' | 'pairsModel';
  /**
   * How large float32 products are computed: 'fma', multiply-adds of float32, or 'split', on the matrix unit from three
   * bfloat16 parts of each number, as accurate (`MatmulKernels`). SGEMOE_MATMUL=split asks for the latter.
   */
  readonly matmul: 'fma' | 'split';
  /** The addon's file, null for the reference backend and WebAssembly. */
  readonly addonPath: string | null;
  /** Sentences that say why a faster backend isn't in use, with the command that helps. Empty if nothing is amiss. */
  readonly notes: readonly string[];
}

export interface BlasInfo {
  /** 'OpenBLAS', 'Accelerate', 'MKL' or 'BLIS'; 'cblas' if the library doesn't say. */
  readonly name: string;
  readonly version: string;
  /** The processor family whose kernels the library chose ('SkylakeX', 'Haswell', ...); '' if it doesn't say. */
  readonly core: string;
  /** The file that was opened. */
  readonly path: string;
}
