/**
 * Loads the addon. The only file that touches it: everything above sees `Kernels`.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { SgemoeError } from '../base/errors';
import type { BackendInfo, BackendName, Kernels } from './kernels';

export type NativeBackendRequest = 'auto' | Exclude<BackendName, 'reference'>;

export interface NativeOptions {
  /** What must do the matmuls. 'auto', the default, takes the fastest that is found. */
  backend?: NativeBackendRequest | undefined;
  /** File name or path of a library with `cblas_sgemm`, for 'blas', 'openblas' and 'auto'. */
  blasPath?: string | undefined;
  /** 'baseline', 'avx2', 'avx512' or 'neon' instead of the best one of this processor. For tests. */
  instructionSet?: string | undefined;
  /** The addon's file. Default: the environment variable SGEMOE_ADDON, else build/Release, else prebuilds. */
  addonPath?: string | undefined;
}

type KernelName = Exclude<keyof Kernels, 'info' | 'floatType'>;

interface NativeKernels extends Pick<Kernels, KernelName> {
  readonly info: Pick<BackendInfo, 'backend' | 'blas' | 'instructionSet' | 'notes'>;
  threads(): number;
}

interface Addon {
  create(backend: string, blasPath: string | null, instructionSet: string | null): NativeKernels;
}

/** A record, so that the compiler notices a kernel that is missing here. */
const KERNEL_NAMES: Record<KernelName, true> = {
  setThreads: true,
  alignmentPadding: true,
  adviseHugePages: true,
  sgemm: true,
  sgemmBatch: true,
  sgemmGrouped: true,
  sgemmGroupedTransA: true,
  packedSize: true,
  packWeights: true,
  sgemmPacked: true,
  sgemmGroupedPacked: true,
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
  attentionBackward: true,
  routeForward: true,
  routeBackward: true,
  gatherRows: true,
  scatterAddRows: true,
  scatterAddRowsBackward: true,
  embeddingBackward: true,
  crossEntropy: true,
  sumSquares: true,
  scale: true,
  axpy: true,
  adamw: true,
  randomNormal: true,
};

/** 'linux-x64', 'linux-arm64-musl', 'darwin-arm64', 'win32-x64', ...: also the folder of a prebuilt addon. */
export function platformName(): string {
  return `${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}`;
}

/**
 * Kernels computed by the addon.
 *
 * The addon is the first of: `addonPath` or SGEMOE_ADDON (then no other is tried), build/Release/sgemoe.node,
 * prebuilds/<platform>/sgemoe.node. A Debug build is never loaded unasked.
 *
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when no addon loads, or when it can't provide `backend`: the message
 * lists what was tried, why it failed and the command that fixes it.
 */
export function loadNativeKernels(options: NativeOptions = {}): Kernels {
  const backend = options.backend ?? 'auto';
  const { addon, path } = loadAddon(options.addonPath ?? (process.env.SGEMOE_ADDON || undefined));
  let native: NativeKernels;
  try {
    native = addon.create(backend, options.blasPath ?? null, options.instructionSet ?? null);
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
  return toKernels(native, path);
}

/**
 * The addon's functions on one object, as own properties. A literal with a spread, since an object that grew key by key
 * is a dictionary to V8: a look-up there costs 13 ns, here 1 ns, beside the 150 ns of a call.
 */
function toKernels(native: NativeKernels, addonPath: string): Kernels {
  const missing = (Object.keys(KERNEL_NAMES) as KernelName[]).find(
    (name) => typeof native[name] !== 'function',
  );
  if (missing !== undefined) {
    throw unavailable([
      `sgemoe: the native addon is of another version than the package: it has no '${missing}'.`,
      `Loaded: ${addonPath}`,
      `To fix it: ${buildCommand()}`,
    ]);
  }
  const { threads, info, ...functions } = native;
  const { backend, blas, instructionSet, notes } = info;
  const platform = platformName();
  return {
    floatType: 'float32',
    ...functions,
    get info(): BackendInfo {
      return { backend, platform, blas, instructionSet, threads: threads(), addonPath, notes };
    },
  };
}

// ---------------------------------------------------------------- finding the addon

function loadAddon(explicitPath: string | undefined): { addon: Addon; path: string } {
  const candidates = explicitPath === undefined ? defaultAddonPaths() : [resolve(explicitPath)];
  // createRequire: `require` itself is replaced by bundlers, which then look for the addon at build time.
  const load = createRequire(__filename);
  const tried: string[] = [];
  let cause: unknown;
  for (const path of candidates) {
    if (!existsSync(path)) {
      tried.push(`  ${path}: no such file`);
      continue;
    }
    try {
      const addon = load(path) as Partial<Addon>;
      if (typeof addon.create === 'function') {
        return { addon: addon as Addon, path };
      }
      tried.push(`  ${path}: not an addon of sgemoe`);
    } catch (error) {
      cause ??= error;
      tried.push(`  ${path}: ${firstLine(messageOf(error))}`);
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

function defaultAddonPaths(): string[] {
  const root = packageRoot();
  return [
    join(root, 'build', 'Release', 'sgemoe.node'),
    join(root, 'prebuilds', platformName(), 'sgemoe.node'),
  ];
}

/** The folder of our package.json: two levels up, whether this is src/backend or dist/backend. */
function packageRoot(): string {
  for (let folder = __dirname; ; folder = dirname(folder)) {
    const manifest = join(folder, 'package.json');
    if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).name === 'sgemoe') {
      return folder;
    }
    if (dirname(folder) === folder) {
      return resolve(__dirname, '..', '..');
    }
  }
}

/** The reason that scripts/install.js left, when its build failed or was skipped. */
function buildStatus(): string[] {
  try {
    const file = join(packageRoot(), 'build', 'install-status.json');
    const status = JSON.parse(readFileSync(file, 'utf8')) as {
      ok: boolean;
      reason?: string | undefined;
      log?: string | undefined;
    };
    return status.ok ? [] : [`At install: ${status.reason}${status.log ? ` (log: ${status.log})` : ''}`];
  } catch {
    return ["The install script never ran: package managers may skip dependencies' scripts."];
  }
}

let musl: boolean | undefined;

/**
 * By the loader that this Node asks for, named in the head of its file: process.report says it too, but takes 7 ms, a
 * tenth of a program's start.
 */
function isMusl(): boolean {
  musl ??= process.platform === 'linux' && headOf(process.execPath).includes('/ld-musl-');
  return musl;
}

function headOf(path: string): string {
  const head = Buffer.alloc(4096);
  const file = openSync(path, 'r');
  try {
    return head.toString('latin1', 0, readSync(file, head, 0, head.length, 0));
  } finally {
    closeSync(file);
  }
}

// ---------------------------------------------------------------- saying what to do

function unavailable(lines: string[], cause?: unknown): SgemoeError {
  return new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', lines.join('\n'), { cause });
}

/** What makes the addon loadable: a toolchain, then a build. */
function addonFix(): string {
  const tools: Partial<Record<NodeJS.Platform, string>> = {
    linux:
      'apt-get install -y g++ make python3 (Fedora: dnf install gcc-c++ make python3; Alpine: apk add g++ make python3)',
    darwin: 'xcode-select --install',
    win32: 'install the Visual Studio Build Tools with "C++ Clang tools for Windows", and Python 3',
  };
  return `${tools[process.platform] ?? 'install a C++ compiler, make and Python 3'}, then ${buildCommand()}`;
}

function buildCommand(): string {
  return basename(dirname(packageRoot())) === 'node_modules' ? 'npx sgemoe build' : 'npm run build:native';
}

/** What makes a loaded addon compute as asked. */
function creationFix(backend: NativeBackendRequest, options: NativeOptions, message: string): string {
  if (options.instructionSet !== undefined && message.includes('instruction set')) {
    return 'unset SGEMOE_ISA (or instructionSet), and the best one of this processor is used';
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

function firstLine(text: string): string {
  return text.split('\n', 1)[0] as string;
}
