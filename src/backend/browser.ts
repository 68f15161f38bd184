/**
 * The kernels where there is no Node: scripts/build-web.js puts this file in the place of index.ts. They have to be
 * loaded before anything computes, since a browser fetches and compiles in its own time.
 */
import { SgemoeError } from '../base/errors';
import type { BackendInfo, Kernels } from './kernels';
import { createReferenceKernels } from './reference';
import { WebAssembly } from './wasm/api';
import { instantiate } from './wasm/instance';

let current: Kernels | undefined;

/**
 * Fetches and compiles the kernels; to be awaited before a model is made. Later calls give the same. Where the browser
 * has no WebAssembly with shared memory and vectors, the reference backend computes, and `notes` says why.
 * @param url of kernels.wasm.
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when the file can't be fetched.
 */
export async function loadKernels(url: string | URL): Promise<BackendInfo> {
  current ??= await createKernelsFrom(url);
  return current.info;
}

async function createKernelsFrom(url: string | URL): Promise<Kernels> {
  const bytes = await fetchBytes(String(url));
  try {
    const module = await WebAssembly.compile(bytes);
    const info = { platform: 'browser-wasm32', addonPath: null, notes: [] };
    return instantiate(module, { info }).kernels;
  } catch (error) {
    return createReferenceKernels({ notes: [`WebAssembly: ${(error as Error).message}`] });
  }
}

async function fetchBytes(url: string): Promise<Uint8Array> {
  try {
    const response = await fetch(url);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    throw new Error(`${response.status} ${response.statusText}`);
  } catch (cause) {
    throw new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', `${url}: ${(cause as Error).message}`, { cause });
  }
}

/** @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE before `loadKernels`. */
export function getKernels(): Kernels {
  if (current !== undefined) return current;
  throw new SgemoeError('SGEMOE_BACKEND_UNAVAILABLE', 'await load() before anything computes');
}

export function backendInfo(): BackendInfo {
  return getKernels().info;
}
