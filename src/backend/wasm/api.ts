/**
 * What is used of the engine's WebAssembly, typed here: TypeScript declares it with browsers' types alone, which a package
 * for Node doesn't ask of its users.
 */
export interface Memory {
  /** Of a shared memory another object after each `grow`; older ones stay valid. */
  readonly buffer: ArrayBufferLike;
  /** Pages of 64 KiB; returns how many there were. */
  grow(pages: number): number;
}

export interface Global {
  value: number;
}

/** A compiled module; nothing of it is read here. */
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
}

export const { WebAssembly } = globalThis as unknown as { WebAssembly: Api };
