import type { Memory, Module } from './api';

/** What a helping thread needs to run help() of native/wasm/pool.cc: memory of its own, and the pool that it helps. */
export interface HelperData {
  readonly module: Module;
  readonly memory: Memory;
  readonly stackTop: number;
  readonly tlsAt: number;
  readonly poolAt: number;
  readonly index: number;
}

/** Starts a thread that runs HELPER's `help` with the data; false where it can't. */
export type StartHelper = (data: HelperData) => boolean;

/**
 * A program that defines help(data, ready), which calls ready() and then never returns. It is text, so that bundlers have
 * no file to lose. Kernels take their scratch memory before they share work, so that a helper is asked for none; what it
 * gave anyway it gives again.
 */
export const HELPER = `function help({ module, memory, stackTop, tlsAt, poolAt, index }, ready) {
  const imports = { env: { memory } };
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    if (kind === 'function') imports[from][name] = () => 0;
  }
  const sizes = new Map();
  const free = [];
  imports.sgemoe.allocate = (bytes) => {
    const i = free.findIndex((at) => sizes.get(at) >= bytes);
    if (i >= 0) return free.splice(i, 1)[0];
    const pages = Math.ceil(bytes / 65536);
    const at = memory.grow(pages) * 65536;
    sizes.set(at, pages * 65536);
    return at;
  };
  imports.sgemoe.release = (at) => free.push(at >>> 0);
  const { exports } = new WebAssembly.Instance(module, imports);
  exports.__stack_pointer.value = stackTop;
  exports.__wasm_init_tls(tlsAt);
  ready();
  exports.help(poolAt, index);
}
`;
