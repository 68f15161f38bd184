/**
 * The kernels as WebAssembly, in Node: the C++ of the addon compiled for where no addon loads. Threads of a process share
 * one memory, so that they share weights; each computes on its own.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';
import { SgemoeError } from '../base/errors';
import type { Kernels } from './kernels';
import { platformName } from './platform';
import { createReferenceKernels } from './reference';
import { type Module, WebAssembly } from './wasm/api';
import { instantiate, type SharedHeap } from './wasm/instance';

export interface WasmOptions {
  /** Why no faster backend is in use, for `info.notes`. */
  readonly notes?: readonly string[] | undefined;
}

/** What threads that this one starts get from it. */
interface Inherited {
  readonly module: Module;
  readonly shared: SharedHeap;
}

const INHERITED = 'sgemoe wasm';

/** `__dirname` and a literal, so that what traces files finds it. */
const FILE = typeof __dirname === 'string' ? join(__dirname, '../../prebuilds/wasm/kernels.wasm') : null;

/**
 * The kernels of prebuilds/wasm/kernels.wasm, on the memory of the thread that started this one where that computes with
 * them too.
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when the file is missing or of another version, or this engine can't run it.
 */
export function loadWasmKernels({ notes = [] }: WasmOptions = {}): Kernels {
  const inherited = getEnvironmentData(INHERITED) as unknown as Inherited | undefined;
  let made: ReturnType<typeof instantiate>;
  let module: Module;
  try {
    module = inherited?.module ?? new WebAssembly.Module(readFileSync(FILE ?? ''));
    const info = { platform: platformName(), addonPath: null, notes: [...notes] };
    made = instantiate(module, { shared: inherited?.shared, info });
  } catch (error) {
    throw unavailable(`${FILE ?? 'kernels.wasm (this is a bundle)'}: ${(error as Error).message}`, error);
  }
  const missing = Object.keys(createReferenceKernels()).find((name) => !(name in made.kernels));
  if (missing !== undefined) throw unavailable(`${FILE}: of another version, it has no '${missing}'`);
  if (inherited === undefined) setEnvironmentData(INHERITED, { module, shared: made.shared } as never);
  return made.kernels;
}

function unavailable(reason: string, cause?: unknown): SgemoeError {
  const lines = [
    `sgemoe: the WebAssembly backend can not be loaded on ${platformName()}, Node ${process.versions.node}.`,
    `  ${reason}`,
    'To fix it: install the package again; in a clone npm run build:wasm',
  ];
  return new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', lines.join('\n'), { cause });
}
