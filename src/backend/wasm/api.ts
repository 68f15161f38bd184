/**
 * Types of the parts of WebAssembly that are used. TypeScript declares WebAssembly only together with browsers' types, which
 * a package for Node doesn't demand of its users.
 */
export interface Memory {
  /** Shared memory has a new object after each `grow`; older objects stay valid. */
  readonly buffer: ArrayBufferLike;
  /** Pages of 64 KiB; returns how many there were. */
  grow(pages: number): number;
}

export interface Global {
  value: number;
}

/** A compiled module, of which nothing is read here. */
export interface Module {
  readonly [Symbol.toStringTag]: string;
}

export type Imports = Record<string, Record<string, unknown>>;

interface Api {
  readonly Memory: new (limits: { initial: number; maximum: number; shared: true }) => Memory;
  readonly Module: {
    new (bytes: Uint8Array): Module;
    imports(module: Module): { module: string; name: string }[];
  };
  readonly Instance: new (module: Module, imports: Imports) => { readonly exports: unknown };
  compile(bytes: Uint8Array): Promise<Module>;
  validate(bytes: Uint8Array): boolean;
}

export const { WebAssembly } = globalThis as unknown as { WebAssembly: Api };

/** A module of one function, f32x4.relaxed_madd of its argument three times. */
const RELAXED_PROBE = Uint8Array.of(
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7b, 1, 0x7b, 3, 2, 1, 0],
  ...[10, 13, 1, 11, 0, 0x20, 0, 0x20, 0, 0x20, 0, 0xfd, 0x85, 2, 0x0b],
);

/** What the kernels are compiled for: kernels.wasm and kernels-relaxed.wasm. */
export type WasmInstructionSet = 'simd128' | 'relaxed-simd';

/** The fastest one that this engine runs. Relaxed SIMD has a multiply-add in one instruction. */
export function bestInstructionSet(): WasmInstructionSet {
  return WebAssembly.validate(RELAXED_PROBE) ? 'relaxed-simd' : 'simd128';
}

/** Threads of the pool by default. Each is an engine of its own, which takes about 5 MB, and 30 ms of a processor to start. */
export function defaultThreads(processors: number): number {
  return Math.max(1, Math.min(processors, 8));
}
