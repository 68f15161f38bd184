/**
 * The kernels as WebAssembly, in Node: the addon's C++, compiled for machines on which no addon loads. Threads of a process
 * share one memory, so that they share weights; each thread that computes has helping threads of its own.
 */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { getEnvironmentData, SHARE_ENV, setEnvironmentData, Worker } from 'node:worker_threads';
import { gunzipSync } from 'node:zlib';
import { SgemoeError } from '../base/errors';
import type { Kernels } from './kernels';
import { platformName } from './platform';
import { createReferenceKernels } from './reference';
import {
  bestInstructionSet,
  defaultThreads,
  type Module,
  type WasmInstructionSet,
  WebAssembly,
} from './wasm/api';
import { HELPER, type HelperData } from './wasm/helper';
import { instantiate, type SharedHeap, type WasmInstance } from './wasm/instance';

export interface WasmOptions {
  /** Why no faster backend is in use, for `info.notes`. */
  readonly notes?: readonly string[] | undefined;
  /** Default: the best one that the engine runs. Threads that this one starts keep it. */
  readonly instructionSet?: WasmInstructionSet | undefined;
}

/** What this thread passes to threads that it starts. */
interface Inherited {
  readonly module: Module;
  readonly shared: SharedHeap;
  readonly instructionSet: WasmInstructionSet;
}

const INHERITED = 'sgemoe wasm';

/**
 * Where the kernels are in a clone, and in the package, which has them once, gzipped, beside the module for browsers. The paths are
 * `__dirname` and literals, so that tools which trace files find them.
 */
const FILES =
  typeof __dirname === 'string'
    ? {
        simd128: [
          join(__dirname, '../../prebuilds/wasm/kernels.wasm'),
          join(__dirname, '../web/kernels.wasm.gz'),
        ],
        'relaxed-simd': [
          join(__dirname, '../../prebuilds/wasm/kernels-relaxed.wasm'),
          join(__dirname, '../web/kernels-relaxed.wasm.gz'),
        ],
      }
    : null;

/**
 * The kernels of `FILES`. If the thread that started this one computes with them too, both use its memory.
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when the file is missing or of another version, or this engine can't run it.
 */
export function loadWasmKernels(options: WasmOptions = {}): Kernels {
  return loadWasmInstance(options).kernels;
}

/** Returns the whole instance: the kernels, and what `Kernels` doesn't tell. */
export function loadWasmInstance({ notes = [], instructionSet }: WasmOptions = {}): WasmInstance {
  const inherited = getEnvironmentData(INHERITED) as unknown as Inherited | undefined;
  const set = inherited?.instructionSet ?? instructionSet ?? bestInstructionSet();
  const found = fileOf(set);
  const file = found ?? 'kernels.wasm (this is a bundle)';
  let made: WasmInstance;
  let module: Module;
  try {
    module = inherited?.module ?? new WebAssembly.Module(readKernels(found ?? ''));
    const info = { platform: platformName(), instructionSet: set, addonPath: null, notes: [...notes] };
    made = instantiate(module, { shared: inherited?.shared, info, threads: threads(), startHelper });
  } catch (error) {
    throw unavailable(`${file}: ${(error as Error).message}`, error);
  }
  const missing = Object.keys(createReferenceKernels()).find((name) => !(name in made.kernels));
  if (missing !== undefined) throw unavailable(`${file}: of another version, it has no '${missing}'`);
  if (inherited === undefined) {
    setEnvironmentData(INHERITED, { module, shared: made.shared, instructionSet: set } as never);
  }
  return made;
}

/** The first that is there; the first of all where none is, for the message. */
function fileOf(set: WasmInstructionSet): string | undefined {
  const files = FILES?.[set];
  return files?.find((file) => existsSync(file)) ?? files?.[0];
}

function readKernels(file: string): Buffer {
  const bytes = readFileSync(file);
  return file.endsWith('.gz') ? gunzipSync(bytes) : bytes;
}

/** SGEMOE_THREADS, which index.ts has checked, or what the process may use. */
function threads(): number {
  return Number(process.env.SGEMOE_THREADS) || defaultThreads(availableParallelism());
}

/** The helper ends with this thread, and doesn't keep the process running. */
function startHelper(data: HelperData): boolean {
  try {
    const program = `${HELPER}help(require('node:worker_threads').workerData, () => {});`;
    const worker = new Worker(program, { eval: true, workerData: data, env: SHARE_ENV, execArgv: [] });
    worker.on('error', () => {});
    worker.unref();
    return true;
  } catch {
    return false;
  }
}

function unavailable(reason: string, cause?: unknown): SgemoeError {
  const lines = [
    `sgemoe: the WebAssembly backend can not be loaded on ${platformName()}, Node ${process.versions.node}.`,
    `  ${reason}`,
    'To fix it: install the package again; in a clone npm run build:wasm',
  ];
  return new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', lines.join('\n'), { cause });
}
