/**
 * Loads the addon. Only this file knows the addon; everything above uses `Kernels`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { SgemoeError } from '../base/errors';
import type { FileMapping, KernelMemory } from './kernelMemory';
import type { BackendInfo, BackendName, Kernels } from './kernels';
import { processMemory } from './memory';
import { buildCommand, isInstalled } from './packageManager';
import { platformName } from './platform';

export type NativeBackendRequest = 'auto' | Exclude<BackendName, 'reference' | 'wasm'>;

export interface NativeOptions {
  /** The backend of matmuls. 'auto', the default, takes the fastest that is found. */
  backend?: NativeBackendRequest | undefined;
  /** File name or path of a library with `cblas_sgemm`, for 'blas', 'openblas' and 'auto'. */
  blasPath?: string | undefined;
  /** 'baseline', 'avx2', 'avxvnni', 'avx512', 'avx512vnni', 'neon', 'neondot' or 'neoni8mm', for tests. Default: the best one of this processor. */
  instructionSet?: string | undefined;
  /** Products by block types take the activations as they are (`StoredKernels`). Default: false. */
  exact?: boolean | undefined;
  /**
   * 'split': large float32 products on the matrix unit, which must be there. 'fma': the unit isn't used. Default: it multiplies
   * many rows by matrices stored in bfloat16 and, unless `exact`, in blocks, if it is there.
   */
  matmul?: 'fma' | 'split' | undefined;
  /** For tests, a scalar model in place of what the processor has: of its matrix unit, or of vectors of pairs of bfloat16. */
  tiles?: 'model' | 'pairsModel' | undefined;
  /** The addon's file. Default: the environment variable SGEMOE_ADDON, else build/Release, else prebuilds/. */
  addonPath?: string | undefined;
}

type KernelName = Exclude<keyof Kernels, 'info' | 'floatType' | 'memory'>;

interface NativeKernels extends Pick<Kernels, KernelName> {
  readonly info: Pick<
    BackendInfo,
    'backend' | 'blas' | 'instructionSet' | 'exactProducts' | 'matrixUnit' | 'matmul' | 'notes'
  >;
  threads(): number;
}

interface Addon {
  /** Its own file, '' where the system doesn't tell. */
  readonly path: string;
  create(
    backend: string,
    blasPath: string | null,
    instructionSet: string | null,
    exact: boolean,
    matmul: string | null,
    tiles: string | null,
  ): NativeKernels;
  mapFile(
    path: string,
    ranges: Float64Array,
    regions: Float64Array,
  ): [handle: object, size: number, ...ArrayBuffer[]] | null;
  mappingState(handle: object): 0 | 1 | 2;
  openRanks(path: string, timeoutMs: number, onProgress: () => void): NativeRanks;
  /** The ranks that another thread has opened; this one may not `listen`. */
  joinRanks(): NativeRanks;
}

/** The ranks of a run over MPI, as the addon has them. Transfers are known by tickets and done in the order of these. */
export interface NativeRanks {
  readonly rank: number;
  readonly size: number;
  /** Among the ranks of this host. */
  readonly localRank: number;
  readonly localSize: number;
  /** Whose binary interface the library has. */
  readonly abi: 'openmpi' | 'mpich' | 'standard';
  /** The library's own words. */
  readonly version: string;
  readonly path: string;
  /** Starts an exchange (collectives/exchange.ts). `sum`: 0 none, 1 float32, 2 float64. `isLast`: MPI is finalized after it. */
  post(
    name: number,
    type: number,
    sum: 0 | 1 | 2,
    isLast: boolean,
    sends: readonly Uint8Array[],
    receives: readonly Uint8Array[],
  ): number;
  /** 0 pending, 1 done, 2 never, since the run has failed. */
  state(ticket: number): 0 | 1 | 2;
  /** Blocks until the state is no longer 0. */
  wait(ticket: number): 1 | 2;
  /** Whether `onProgress` is called after each transfer; meanwhile the process stays alive. */
  listen(isHeard: boolean): void;
  failure(): {
    readonly kind: 'none' | 'mismatch' | 'aborted' | 'timeout' | 'library';
    /** Who aborted; whom this rank waited for. */
    readonly rank: number;
    readonly text: string;
    readonly heads: readonly number[];
  };
  abort(reason: string): void;
  /** What the run's processes end with when this one ends before the run is closed; 0 becomes 1. */
  setExitCode(code: number): void;
}

/** What `mappingState` returns. */
const MAPPING_STATES = ['whole', 'lost', 'changed'] as const;

/** This is a record so that the compiler notices a missing kernel. */
const KERNEL_NAMES: Record<KernelName, true> = {
  setThreads: true,
  alignmentPadding: true,
  adviseHugePages: true,
  sgemm: true,
  sgemmBatch: true,
  sgemmGrouped: true,
  sgemmGroupedTransA: true,
  gemmBfloat16: true,
  gemmBfloat16Grouped: true,
  gemmBfloat16GroupedTransA: true,
  packedSize: true,
  packWeights: true,
  sgemmPacked: true,
  sgemmGroupedPacked: true,
  storedMatrices: true,
  multiplyStored: true,
  multiplyStoredGroups: true,
  gatherStored: true,
  quantize: true,
  dequantize: true,
  exp: true,
  silu: true,
  softmaxForward: true,
  softmaxBackward: true,
  rmsNormForward: true,
  rmsNormBackward: true,
  swigluForward: true,
  swigluBackward: true,
  rope: true,
  attentionForward: true,
  attentionForwardStored: true,
  attentionBackward: true,
  routeForward: true,
  routeBackward: true,
  gatherRows: true,
  scatterAddRows: true,
  scatterAddRowsBackward: true,
  embeddingBackward: true,
  sampleRows: true,
  crossEntropy: true,
  sumSquares: true,
  scale: true,
  axpy: true,
  adamw: true,
  randomNormal: true,
};

/**
 * Kernels computed by the addon.
 *
 * The addon is the first that loads of build/Release/sgemoe.node and prebuilds/<platform>/sgemoe.node. `addonPath` or
 * SGEMOE_ADDON replaces that list. A Debug build is only loaded if named.
 *
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when no addon loads, or when it can't provide `backend`: the message
 * lists what was tried, why it failed and the command that fixes it.
 */
export function loadNativeKernels(options: NativeOptions = {}): Kernels {
  const backend = options.backend ?? 'auto';
  const { addon, path } = loadAddon(options.addonPath ?? (process.env.SGEMOE_ADDON || undefined));
  let native: NativeKernels;
  try {
    native = addon.create(
      backend,
      options.blasPath ?? null,
      options.instructionSet ?? null,
      options.exact ?? false,
      options.matmul ?? null,
      options.tiles ?? null,
    );
  } catch (error) {
    throw unavailable(
      [
        `sgemoe: backend '${backend}' is not available on ${describeHost()}.`,
        messageOf(error),
        `To fix it: ${creationFix(backend, options, messageOf(error))}`,
      ],
      error,
    );
  }
  return toKernels(native, addon, path, backend);
}

/**
 * The addon's functions as own properties of one object. A literal with a spread makes the object, since V8 turns one that
 * grows key by key into a dictionary: a look-up there costs 13 ns instead of 1 ns; a call costs 150 ns.
 */
function toKernels(
  native: NativeKernels,
  addon: Addon,
  addonPath: string,
  request: NativeBackendRequest,
): Kernels {
  const missing = [...(Object.keys(KERNEL_NAMES) as KernelName[]), 'mapFile' as const].find(
    (name) => typeof (name === 'mapFile' ? addon[name] : native[name]) !== 'function',
  );
  if (missing !== undefined) {
    throw unavailable([
      `sgemoe: the native addon is of another version than the package: it has no '${missing}'.`,
      `Loaded: ${addonPath}`,
      `To fix it: ${buildCommand(packageRoot())}`,
    ]);
  }
  const { threads, info, ...functions } = native;
  const { notes, ...described } = info;
  const platform = platformName();
  return {
    floatType: 'float32',
    memory: processMemory({ floatType: 'float32', ...functions }, (...args) => mapFile(addon, ...args)),
    ...functions,
    get info(): BackendInfo {
      return { ...described, request, platform, threads: threads(), addonPath, notes };
    },
  };
}

/**
 * Opens a library of MPI and starts it in a thread of its own, once in a process.
 * @throws Error with the reason; SgemoeError SGEMOE_BACKEND_UNAVAILABLE when no addon loads.
 */
export function openNativeRanks(
  path: string,
  timeoutMs: number,
  onProgress: () => void,
): { ranks: NativeRanks; addonPath: string } {
  const { addon, path: addonPath } = loadAddon(process.env.SGEMOE_ADDON || undefined);
  return { ranks: addon.openRanks(path, timeoutMs, onProgress), addonPath };
}

/** The ranks that another thread of the process has opened by the addon at `addonPath`. @throws Error if none has. */
export function joinNativeRanks(addonPath: string): NativeRanks {
  return loadAddon(addonPath).addon.joinRanks();
}

function mapFile(
  addon: Addon,
  ...args: Parameters<NonNullable<KernelMemory['mapFile']>>
): FileMapping | null {
  const mapped = addon.mapFile(...args);
  if (mapped === null) return null;
  const [handle, size, ...buffers] = mapped;
  return { size, buffers, state: () => MAPPING_STATES[addon.mappingState(handle)] };
}

// ---------------------------------------------------------------- finding the addon

/** A place where the addon may be. */
interface Candidate {
  path: string;
  load(): unknown;
}

/** A plain require of each prebuild, since bundlers and tracers must see every file that may be loaded. */
const PREBUILDS: Readonly<Record<string, () => unknown>> = {
  'linux-x64': () => require('../../prebuilds/linux-x64/sgemoe.node'),
  'linux-arm64': () => require('../../prebuilds/linux-arm64/sgemoe.node'),
  'linux-x64-musl': () => require('../../prebuilds/linux-x64-musl/sgemoe.node'),
  'linux-arm64-musl': () => require('../../prebuilds/linux-arm64-musl/sgemoe.node'),
  'darwin-x64': () => require('../../prebuilds/darwin-x64/sgemoe.node'),
  'darwin-arm64': () => require('../../prebuilds/darwin-arm64/sgemoe.node'),
  'win32-x64': () => require('../../prebuilds/win32-x64/sgemoe.node'),
  'win32-arm64': () => require('../../prebuilds/win32-arm64/sgemoe.node'),
};

function loadAddon(explicitPath: string | undefined): { addon: Addon; path: string } {
  const candidates =
    explicitPath === undefined ? defaultCandidates() : [fileCandidate(resolve(explicitPath))];
  const tried: string[] = [];
  let cause: unknown;
  for (const { path, load } of candidates) {
    try {
      const addon = load() as Partial<Addon>;
      if (typeof addon.create === 'function') return { addon: addon as Addon, path: fileOf(addon, path) };
      tried.push(`  ${path}: not an addon of sgemoe`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') {
        tried.push(`  ${path}: no such file`);
        continue;
      }
      cause ??= error;
      tried.push(`  ${path}: ${reasonOf(error)}`);
    }
  }
  throw unavailable(
    [
      `sgemoe: the native addon can not be loaded on ${describeHost()}.`,
      'Tried:',
      ...tried,
      ...buildStatus(),
      `To fix it: ${explicitPath === undefined ? addonFix() : 'correct or unset SGEMOE_ADDON (or addonPath)'}`,
    ],
    cause,
  );
}

function defaultCandidates(): Candidate[] {
  const root = packageRoot();
  const platform = platformName();
  const path = join(root ?? '', 'prebuilds', platform, 'sgemoe.node');
  const prebuilt = {
    path,
    load: () => (Object.hasOwn(PREBUILDS, platform) ? PREBUILDS[platform]() : throwNotFound(path)),
  };
  return root === null
    ? [prebuilt]
    : [fileCandidate(join(root, 'build', 'Release', 'sgemoe.node')), prebuilt];
}

/** A file that is opened under its own name, whatever a bundler makes of `require`. */
function fileCandidate(path: string): Candidate {
  return {
    path,
    load() {
      if (!existsSync(path)) throwNotFound(path);
      const loaded = { exports: {} };
      process.dlopen(loaded, path);
      return loaded.exports;
    },
  };
}

/** Whether this is a bundle, on a platform for which the package has an addon: one that doesn't load is the build's fault. */
export function isBundleOfKnownPlatform(): boolean {
  return packageRoot() === null && Object.hasOwn(PREBUILDS, platformName());
}

/** In a bundle only the addon knows where it lies. */
function fileOf(addon: Partial<Addon>, path: string): string {
  return packageRoot() === null && addon.path ? addon.path : path;
}

function throwNotFound(path: string): never {
  throw Object.assign(new Error(`${path} not found`), { code: 'MODULE_NOT_FOUND' });
}

/** The folder of our package.json, two levels up from src/backend as from dist/backend; null in a bundle. */
function packageRoot(): string | null {
  if (typeof __dirname !== 'string') return null; // an ES module
  const root = resolve(__dirname, '..', '..');
  try {
    const { name } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name?: string };
    return name === 'sgemoe' ? root : null;
  } catch {
    return null;
  }
}

/** The reason that scripts/build-native.js recorded when the last build failed or was skipped. */
function buildStatus(): string[] {
  try {
    const file = join(packageRoot() as string, 'build', 'native-status.json');
    const status = JSON.parse(readFileSync(file, 'utf8')) as { ok: boolean; reason?: string; log?: string };
    return status.ok ? [] : [`The last build: ${status.reason}${status.log ? ` (log: ${status.log})` : ''}`];
  } catch {
    return [];
  }
}

// ---------------------------------------------------------------- saying what to do

function unavailable(lines: string[], cause?: unknown): SgemoeError {
  return new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', lines.join('\n'), { cause });
}

/** The advice that makes the addon loadable: install the package's file again, or a toolchain and a build. */
function addonFix(): string {
  const root = packageRoot();
  const tools: Partial<Record<NodeJS.Platform, string>> = {
    linux:
      'apt-get install -y g++ make python3 (Fedora: dnf install gcc-c++ make python3; Alpine: apk add g++ make python3)',
    darwin: 'xcode-select --install',
    win32: 'install the Visual Studio Build Tools with "C++ Clang tools for Windows", and Python 3',
  };
  const build = `${tools[process.platform] ?? 'install a C++ compiler, make and Python 3'}, then ${buildCommand(root)}`;
  if (root === null) {
    return `this is a bundle: leave sgemoe out of it (external), or let the bundler copy prebuilds/${platformName()}/sgemoe.node, or name that file in SGEMOE_ADDON (docs/bundling.md); SGEMOE_BACKEND=reference does without, many times slower`;
  }
  const came = Object.hasOwn(PREBUILDS, platformName()) && isInstalled(root);
  const isThere = existsSync(join(root, 'prebuilds', platformName(), 'sgemoe.node'));
  return came && !isThere
    ? `delete node_modules and install again on this platform (sgemoe prune leaves one platform's file); or ${build}`
    : build;
}

/** The advice that makes a loaded addon compute as requested. */
function creationFix(backend: NativeBackendRequest, options: NativeOptions, message: string): string {
  if (options.instructionSet !== undefined && message.includes('instruction set')) {
    return 'unset SGEMOE_ISA (or instructionSet), and the best one of this processor is used';
  }
  if (options.matmul === 'split' && message.includes('matrix unit')) {
    return 'unset SGEMOE_MATMUL (or matmul)';
  }
  if (backend === 'accelerate') {
    return 'Accelerate is part of macOS; elsewhere unset SGEMOE_BACKEND, or set it to openblas';
  }
  const install: Partial<Record<NodeJS.Platform, string>> = {
    linux: 'apt-get install -y libopenblas0 (Fedora: dnf install openblas; Alpine: apk add openblas)',
    darwin: 'brew install openblas',
    win32: 'download the OpenBLAS release for Windows',
  };
  const name = 'set SGEMOE_BLAS to a library with cblas_sgemm and 32-bit integers';
  return options.blasPath === undefined
    ? `${install[process.platform] ?? 'install OpenBLAS'}, or ${name}`
    : name;
}

function describeHost(): string {
  return `${platformName()}, Node ${process.versions.node}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Without what follows the reason: a stack of requires, a hint. */
function reasonOf(error: unknown): string {
  const lines = messageOf(error).split('\n');
  return lines.slice(0, lines[0].endsWith(':') ? 2 : 1).join(' ');
}
