/**
 * The kernels in a browser: scripts/build-web.js replaces index.ts by this file. The kernels must be loaded before anything
 * computes, since a browser fetches and compiles asynchronously.
 */
import { SgemoeError } from '../base/errors';
import type { BackendInfo, Kernels } from './kernels';
import { createReferenceKernels } from './reference';
import { bestInstructionSet, defaultThreads, type WasmInstructionSet, WebAssembly } from './wasm/api';
import { HELPER, type HelperData } from './wasm/helper';
import { instantiate } from './wasm/instance';

export interface LoadOptions {
  /**
   * Threads that compute, 1..256, where the page is cross-origin isolated; elsewhere one does. Default: as many as the
   * machine has processors, at most 8.
   */
  readonly threads?: number | undefined;
}

export type KernelFiles = Readonly<Record<WasmInstructionSet, string | URL>>;

/** The part of a browser's Worker that is used; a package for Node has no types of it. */
interface BrowserWorker {
  onmessage: unknown;
  onerror: unknown;
  postMessage(data: unknown): void;
  terminate(): void;
}
interface Browser {
  readonly crossOriginIsolated?: boolean;
  readonly navigator?: { readonly hardwareConcurrency?: number };
  readonly Worker?: new (url: string) => BrowserWorker;
}
const browser = globalThis as unknown as Browser;

let current: Kernels | undefined;

/**
 * Fetches and compiles the kernels, and starts the threads that compute. Await it before a model is made. Later calls return
 * the same. Where the browser has no WebAssembly with shared memory and vectors, the reference backend computes, and
 * `notes` says why.
 * @param files of the instruction sets, of which one is fetched.
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when the file can't be fetched; RangeError for `threads`.
 */
export async function loadKernels(files: KernelFiles, options: LoadOptions = {}): Promise<BackendInfo> {
  const { threads = defaultThreads(browser.navigator?.hardwareConcurrency ?? 1) } = options;
  if (!(Number.isInteger(threads) && threads >= 1 && threads <= 256)) {
    throw new RangeError(`threads must be an integer in 1..256, got ${String(threads)}`);
  }
  current ??= await createKernelsFrom(files, threads);
  return current.info;
}

async function createKernelsFrom(files: KernelFiles, threads: number): Promise<Kernels> {
  const instructionSet = bestInstructionSet();
  const file = await fetchBytes(String(files[instructionSet]));
  const helpers = new Helpers();
  try {
    const module = await WebAssembly.compile(await unpacked(file));
    const info = { platform: 'browser-wasm32', instructionSet, addonPath: null, notes: [] };
    const { kernels, startHelpers } = instantiate(module, { info, startHelper: helpers.start });
    if (browser.crossOriginIsolated && threads > 1) {
      startHelpers(threads - 1);
      const started = await helpers.ready();
      kernels.setThreads(started + 1);
    }
    return kernels;
  } catch (error) {
    return createReferenceKernels({ notes: [`WebAssembly: ${(error as Error).message}`] });
  }
}

/**
 * Threads that run HELPER. All are started and awaited first, since a page or a worker that computes can't start any.
 */
class Helpers {
  #url: string | undefined;
  readonly #starting: Promise<boolean>[] = [];

  readonly start = (data: HelperData): boolean => {
    const { Worker } = browser;
    if (Worker === undefined || !browser.crossOriginIsolated) return false;
    this.#url ??= URL.createObjectURL(
      new Blob([`${HELPER}onmessage = ({ data }) => help(data, () => postMessage(0));`]),
    );
    try {
      const worker = new Worker(this.#url);
      this.#starting.push(
        new Promise((done) => {
          worker.onmessage = () => done(true);
          worker.onerror = () => done(false);
        }),
      );
      worker.postMessage(data);
      return true;
    } catch {
      return false;
    }
  };

  /** How many threads run. */
  async ready(): Promise<number> {
    const running = await Promise.all(this.#starting);
    if (this.#url !== undefined) URL.revokeObjectURL(this.#url);
    this.#url = undefined;
    return running.filter(Boolean).length;
  }
}

async function fetchBytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const response = await fetch(url);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    throw new Error(`${response.status} ${response.statusText}`);
  } catch (cause) {
    throw new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', `${url}: ${(cause as Error).message}`, { cause });
  }
}

/** The kernels lie gzipped on the server; some servers and caches hand them over unpacked. */
async function unpacked(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  if (!isGzip) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE before `loadKernels`. */
export function getKernels(): Kernels {
  if (current !== undefined) return current;
  throw new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', 'await load() before anything computes');
}

export function backendInfo(): BackendInfo {
  return getKernels().info;
}
