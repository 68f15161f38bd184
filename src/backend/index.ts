/**
 * The kernels of this thread, created at first use from the environment:
 *
 * - SGEMOE_BACKEND=auto|reference|wasm|builtin|openblas|accelerate|blas: the backend; any value except 'auto' is a demand.
 * - SGEMOE_BLAS=<file>: a library with `cblas_sgemm` (MKL, BLIS, another OpenBLAS).
 * - SGEMOE_ADDON=<file>: the addon to load.
 * - SGEMOE_ISA=baseline|avx2|avxvnni|avx512|avx512vnni|neon|neondot|neoni8mm: for tests.
 * - SGEMOE_EXACT=1: products by block types take the activations as they are (`BackendInfo.exactProducts`).
 * - SGEMOE_MATMUL=fma|split: without, or also float32 with, the matrix unit (`BackendInfo.matmul`).
 * - SGEMOE_TILES=model: for tests, the scalar model of the matrix unit in place of the processor's.
 * - SGEMOE_THREADS=1..256: size of the thread pool.
 *
 * A demand that can't be met throws, and so does a bundle without its addon. Otherwise the best backend that loads is used;
 * if that isn't the fastest kind, one process warning says what is missing.
 */
import { SgemoeError } from '../base/errors';
import type { BackendInfo, BackendRequest, Kernels } from './kernels';
import { isBundleOfKnownPlatform, loadNativeKernels, type NativeOptions } from './native';
import { createReferenceKernels } from './reference';
import { loadWasmKernels } from './wasm';

const REQUESTS: readonly BackendRequest[] = [
  'auto',
  'reference',
  'wasm',
  'builtin',
  'openblas',
  'accelerate',
  'blas',
];
/** Backends that open no library. */
const WITHOUT_LIBRARY: readonly string[] = ['reference', 'wasm', 'builtin', 'accelerate'];
const INSTRUCTION_SETS = [
  'baseline',
  'avx2',
  'avxvnni',
  'avx512',
  'avx512vnni',
  'neon',
  'neondot',
  'neoni8mm',
];
const MAX_THREADS = 256;

let current: Kernels | undefined;
let warned = false;

/**
 * The kernels that everything in this thread computes with; created once.
 *
 * @throws RangeError when an SGEMOE_ variable has a value that doesn't exist.
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when the environment demands what can't be had.
 */
export function getKernels(): Kernels {
  current ??= createKernels();
  return current;
}

/** Describes the backend of this thread, and why it isn't a faster one. Errors as `getKernels`. */
export function backendInfo(): BackendInfo {
  return getKernels().info;
}

/** Sets the size of the process's thread pool, an integer in 1..256. Results don't depend on it. */
export function setThreads(threads: number): void {
  getKernels().setThreads(threads);
}

/**
 * Creates kernels of a backend. Default: SGEMOE_BACKEND, else 'auto'. The other SGEMOE_ variables apply too; `addonPath` is the
 * addon's file in place of SGEMOE_ADDON. Errors as `getKernels`.
 */
export function createKernels(
  name: BackendRequest = requestFromEnvironment(),
  addonPath: string | undefined = variable('SGEMOE_ADDON'),
): Kernels {
  if (!REQUESTS.includes(name)) {
    throw new RangeError(`backend must be one of ${REQUESTS.join(', ')}, got '${String(name)}'`);
  }
  checkThreadsVariable();
  if (name === 'reference') {
    return createReferenceKernels({ notes: ['The reference backend was asked for.'] });
  }
  if (name === 'wasm') return loadWasmKernels({ notes: ['The WebAssembly backend was asked for.'] });
  const takesLibrary = name === 'auto' || name === 'blas' || name === 'openblas';
  const blasPath = takesLibrary ? variable('SGEMOE_BLAS') : undefined;
  const instructionSet = instructionSetFromEnvironment();
  const exact = exactFromEnvironment();
  const matmul = oneOf('SGEMOE_MATMUL', variable('SGEMOE_MATMUL'), ['fma', 'split'] as const);
  const tiles = oneOf('SGEMOE_TILES', variable('SGEMOE_TILES'), ['model', 'pairsModel'] as const);
  const backend = name === 'auto' && blasPath !== undefined ? 'blas' : name;
  const demanded = [instructionSet, addonPath, matmul, tiles].some((value) => value !== undefined);
  const options = { backend, blasPath, instructionSet, addonPath, exact, matmul, tiles };
  return demanded || backend !== 'auto' ? loadNativeKernels(options) : bestKernels(options);
}

/** Instruction sets with which the built-in kernel of float32, their own or AVX2's or AVX-512's, was measured as fast as OpenBLAS (docs/performance.md). */
const LEVEL_WITH_OPENBLAS: readonly string[] = ['avx2', 'avxvnni', 'avx512', 'avx512vnni'];

function bestKernels(options: NativeOptions): Kernels {
  let kernels: Kernels;
  try {
    kernels = loadNativeKernels(options);
  } catch (error) {
    // Nobody would look for a slow backend in what was bundled for speed.
    if (!(error instanceof SgemoeError) || isBundleOfKnownPlatform()) {
      throw error;
    }
    return withoutAddon(error.message);
  }
  const { backend, instructionSet, notes } = kernels.info;
  if (backend === 'builtin' && !LEVEL_WITH_OPENBLAS.includes(instructionSet)) {
    warnOnce(
      'SGEMOE_NO_BLAS',
      'sgemoe found no BLAS library, which may be faster than its built-in kernel.',
      notes,
    );
  }
  return kernels;
}

/** Whether a BLAS library that isn't there may be faster than what multiplies now. */
export function mayGainFromLibrary({ backend, instructionSet }: BackendInfo): boolean {
  return backend === 'builtin' && !LEVEL_WITH_OPENBLAS.includes(instructionSet);
}

/** WebAssembly, or the plain TypeScript where that doesn't load either. @param why no addon loads, and what helps. */
function withoutAddon(why: string): Kernels {
  try {
    const kernels = loadWasmKernels({ notes: why.split('\n') });
    warnOnce(
      'SGEMOE_WASM_BACKEND',
      'sgemoe computes in WebAssembly, several times slower than its native addon.',
      [why],
    );
    return kernels;
  } catch (error) {
    if (!(error instanceof SgemoeError)) throw error;
    warnOnce(
      'SGEMOE_REFERENCE_BACKEND',
      'sgemoe computes with its pure-TypeScript reference backend, many times slower than the native one.',
      [why, error.message],
    );
    return createReferenceKernels({ notes: [why, error.message].join('\n').split('\n') });
  }
}

/** Emits at most one warning per thread. */
function warnOnce(code: string, summary: string, details: readonly string[]): void {
  if (!warned) {
    warned = true;
    process.emitWarning([summary, ...details].join('\n'), { type: 'SgemoeWarning', code });
  }
}

// ---------------------------------------------------------------- environment

/** The value of a variable. An empty one counts as unset, since shells can hardly unset one for a single command. */
function variable(name: string): string | undefined {
  return process.env[name] || undefined;
}

function requestFromEnvironment(): BackendRequest {
  const value = variable('SGEMOE_BACKEND') ?? 'auto';
  if (!(REQUESTS as readonly string[]).includes(value)) {
    throw new RangeError(`SGEMOE_BACKEND must be one of ${REQUESTS.join(', ')}, got '${value}'`);
  }
  const blasPath = variable('SGEMOE_BLAS');
  if (blasPath !== undefined && WITHOUT_LIBRARY.includes(value)) {
    throw new RangeError(`SGEMOE_BLAS must be unset when SGEMOE_BACKEND=${value}, got '${blasPath}'`);
  }
  return value as BackendRequest;
}

function instructionSetFromEnvironment(): string | undefined {
  const value = variable('SGEMOE_ISA');
  if (value !== undefined && !INSTRUCTION_SETS.includes(value)) {
    throw new RangeError(`SGEMOE_ISA must be one of ${INSTRUCTION_SETS.join(', ')}, got '${value}'`);
  }
  return value;
}

function oneOf<T extends string>(
  name: string,
  value: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (value !== undefined && !(choices as readonly string[]).includes(value)) {
    throw new RangeError(`${name} must be ${choices.join(' or ')}, got '${value}'`);
  }
  return value as T | undefined;
}

function exactFromEnvironment(): boolean {
  const value = variable('SGEMOE_EXACT') ?? '0';
  if (value !== '0' && value !== '1') throw new RangeError(`SGEMOE_EXACT must be 0 or 1, got '${value}'`);
  return value === '1';
}

/** Checks SGEMOE_THREADS, which the pool itself reads at its start: a typo must not silently mean the default. */
function checkThreadsVariable(): void {
  const value = variable('SGEMOE_THREADS');
  const threads = Number(value);
  if (value !== undefined && !(/^\d+$/.test(value) && threads >= 1 && threads <= MAX_THREADS)) {
    throw new RangeError(`SGEMOE_THREADS must be an integer in 1..${MAX_THREADS}, got '${value}'`);
  }
}
