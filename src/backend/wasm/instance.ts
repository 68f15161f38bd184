import { availableMemory } from '../../base/machineMemory';
import type { KernelMemory } from '../kernelMemory';
import type { BackendInfo, Kernels } from '../kernels';
import { checkParts } from '../reference/checks';
import { type Global, type Imports, type Memory, type Module, WebAssembly } from './api';
import { ARGUMENT_BYTES, WasmArguments } from './arguments';
import { WasmHeap } from './heap';
import type { StartHelper } from './helper';
import { type MakeStored, WasmStored } from './stored';

/** Pages that 32-bit addresses reach, without the last one, which the linker doesn't allow (scripts/build-wasm.js). */
const MAX_PAGES = 65535;
const PAGE_BYTES = 65536;
/** This equals the value in scripts/build-wasm.js. */
const INITIAL_PAGES = 16;
const STACK_BYTES = 1 << 20;
const MARK_WORDS = 4;

/** A memory that instances in several threads use, so that weights are shared without copying. */
export interface SharedHeap {
  readonly memory: Memory;
  readonly maxBytes: number;
  /** Address of random numbers by which a thread recognises the buffer that another one sent it. */
  readonly markAt: number;
}

interface Exports {
  readonly __stack_pointer: Global;
  readonly __tls_size: Global;
  readonly __wasm_init_tls: (at: number) => void;
  readonly writtenRanges: () => number;
  readonly writtenCount: () => number;
  readonly storedBytes: () => number;
  readonly makeStored: MakeStored;
  readonly threadCount: () => number;
  readonly defaultThreads: (count: number) => void;
  readonly poolOfThread: () => number;
  readonly chunksOfHelpers: () => number;
}

type Entry = (argumentsAt: number, count: number) => number;
type KernelName = Exclude<keyof Kernels, 'info' | 'floatType' | 'memory'>;

export interface WasmOptions {
  /** Memory of another thread, to compute on the same one. Default: a new memory. */
  readonly shared?: SharedHeap | undefined;
  readonly info: Pick<BackendInfo, 'platform' | 'instructionSet' | 'addonPath' | 'notes'>;
  /** Threads that compute while setThreads hasn't been called. Default: 1. */
  readonly threads?: number | undefined;
  /** Default: this thread computes alone. */
  readonly startHelper?: StartHelper | undefined;
}

export interface WasmInstance {
  readonly kernels: Kernels;
  /** What another thread needs to share the memory. */
  readonly shared: SharedHeap;
  /** Starts up to `count` threads that help this one. If it isn't called, the first large operation starts them. */
  readonly startHelpers: (count: number) => void;
  /** Chunks of parallel operations that other threads have computed for this one. */
  readonly chunksOfHelpers: () => number;
}

/** The kernels of a compiled module on this thread. */
export function instantiate(module: Module, options: WasmOptions): WasmInstance {
  const { exports, shared, ...owner } = new Owner(module, options).parts();
  exports.defaultThreads(options.threads ?? 1);
  const kernels: Kernels = {
    floatType: 'float32',
    memory: owner.memory,
    ...owner.functions,
    get info(): BackendInfo {
      return {
        backend: 'wasm',
        request: 'wasm',
        blas: null,
        exactProducts: true,
        matrixUnit: 'none',
        matmul: 'fma',
        threads: exports.threadCount(),
        ...options.info,
      };
    },
  };
  const { startHelpers } = owner;
  return { kernels, shared, startHelpers, chunksOfHelpers: () => exports.chunksOfHelpers() };
}

/** A new memory, as large as the machine can reserve, at most what 32 bits address. */
function createMemory(): { memory: Memory; maxBytes: number } {
  for (let maximum = MAX_PAGES; ; maximum = Math.floor(maximum / 2)) {
    try {
      const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true });
      return { memory, maxBytes: maximum * PAGE_BYTES };
    } catch (error) {
      if (maximum / 2 < INITIAL_PAGES) throw error;
    }
  }
}

/** An instance, its part of the memory, and the calls into it. */
class Owner {
  readonly shared: SharedHeap;
  readonly #memory: Memory;
  readonly #heap: WasmHeap;
  readonly #exports: Exports;
  readonly #entries: Readonly<Record<string, Entry>>;
  readonly #stackTop: number;
  readonly #argumentsAt: number;
  readonly #arguments: WasmArguments;
  readonly #written: Uint32Array;
  /** Whether a buffer is this memory, which has another object in each thread and each time it grows. */
  readonly #known = new WeakMap<ArrayBufferLike, boolean>();
  readonly #kept = new Set<ArrayBufferLike>();
  /** Frees the memory of an array once its buffer, which all its views share, is unreachable. */
  readonly #unreachable = new FinalizationRegistry<number>((at) => this.#heap.release(at));

  readonly #module: Module;
  /** undefined where no thread can be started. */
  #startHelper: StartHelper | undefined;
  #helpers = 0;

  constructor(module: Module, { shared, startHelper }: WasmOptions) {
    const { memory, maxBytes } = shared ?? createMemory();
    this.#module = module;
    this.#startHelper = startHelper;
    this.#memory = memory;
    this.#heap = new WasmHeap(memory, maxBytes);
    const instance = new WebAssembly.Instance(module, this.#imports(module));
    this.#exports = instance.exports as unknown as Exports;
    this.#entries = instance.exports as unknown as Record<string, Entry>;
    this.#stackTop = this.#heap.allocate(STACK_BYTES) + STACK_BYTES;
    this.#exports.__stack_pointer.value = this.#stackTop;
    this.#exports.__wasm_init_tls(this.#heap.allocate(this.#exports.__tls_size.value));
    this.#argumentsAt = this.#heap.allocate(ARGUMENT_BYTES);
    this.#written = new Uint32Array(memory.buffer, this.#exports.writtenRanges() >>> 0, 20);
    this.shared = shared ?? { memory, maxBytes, markAt: this.#mark() };
    this.#arguments = new WasmArguments(memory, this.#heap, this.#argumentsAt, (buffer) =>
      this.#isOwn(buffer),
    );
  }

  parts() {
    return {
      exports: this.#exports,
      shared: this.shared,
      functions: this.#functions(),
      memory: this.#kernelMemory(),
      startHelpers: (count: number) => this.#startHelpers(count),
    };
  }

  /** Returns how many threads there are. */
  #startHelpers(wanted: number): number {
    while (this.#helpers < wanted && this.#startHelper !== undefined) {
      if (!this.#startHelper(this.#helperData())) this.#startHelper = undefined;
      else this.#helpers++;
    }
    return this.#helpers;
  }

  #helperData() {
    return {
      module: this.#module,
      memory: this.#memory,
      stackTop: this.#heap.allocate(STACK_BYTES) + STACK_BYTES,
      tlsAt: this.#heap.allocate(this.#exports.__tls_size.value),
      poolAt: this.#exports.poolOfThread(),
      index: this.#helpers,
    };
  }

  #mark(): number {
    const at = this.#heap.allocate(MARK_WORDS * Uint32Array.BYTES_PER_ELEMENT);
    // The numbers come from a separate array, since some engines refuse to fill shared memory.
    const numbers = globalThis.crypto.getRandomValues(new Uint32Array(MARK_WORDS));
    new Uint32Array(this.#memory.buffer, at, MARK_WORDS).set(numbers);
    return at;
  }

  #isOwn(buffer: ArrayBufferLike): boolean {
    return this.#known.get(buffer) ?? this.#recognise(buffer);
  }

  /** Compares the mark that no other memory has. */
  #recognise(buffer: ArrayBufferLike): boolean {
    if (buffer.byteLength % PAGE_BYTES !== 0 || !isShared(buffer)) return false;
    const { markAt } = this.shared;
    const own = new Uint32Array(this.#memory.buffer, markAt, MARK_WORDS);
    const isOwn =
      buffer.byteLength >= markAt + own.byteLength &&
      new Uint32Array(buffer, markAt, MARK_WORDS).every((word, i) => word === own[i]);
    this.#known.set(buffer, isOwn);
    return isOwn;
  }

  #imports(module: Module): Imports {
    const text = (at: number, bytes: number) =>
      new TextDecoder().decode(new Uint8Array(this.#memory.buffer, at >>> 0, bytes).slice());
    const sgemoe = {
      throwError: (kind: number, at: number, bytes: number) => {
        throw new [TypeError, RangeError, Error][kind](text(at, bytes));
      },
      numberText: (value: number, at: number, room: number) => {
        const bytes = new TextEncoder().encode(String(value)).subarray(0, room);
        new Uint8Array(this.#memory.buffer, at >>> 0, room).set(bytes);
        return bytes.length;
      },
      allocate: (bytes: number) => this.#heap.allocate(bytes),
      release: (at: number) => this.#heap.release(at >>> 0),
      startHelpers: (wanted: number) => this.#startHelpers(wanted),
      now: () => performance.now(),
      nap: () => nap(this.#memory.buffer),
    };
    const imports: Imports = {
      env: { memory: this.#memory },
      sgemoe,
    };
    // The C++ library would print a text before it gives up, but has nowhere to print to.
    for (const { module: name, name: field } of WebAssembly.Module.imports(module)) {
      imports[name] ??= {};
      imports[name][field] ??= () => WASI_NOT_SUPPORTED;
    }
    return imports;
  }

  /** One function for each kernel of the module. */
  #functions(): Pick<Kernels, KernelName> {
    const names = Object.keys(this.#entries).filter((name) => !(name in HELPERS));
    const functions = names.map((name) => {
      const entry = this.#entries[name];
      return [name, (...values: unknown[]) => this.#call(entry, values)];
    });
    const storedMatrices: Kernels['storedMatrices'] = (...values) => this.#storedMatrices(...values);
    return { ...Object.fromEntries(functions), storedMatrices } as unknown as Pick<Kernels, KernelName>;
  }

  #storedMatrices(...values: Parameters<Kernels['storedMatrices']>): WasmStored {
    const checked = checkParts(...values);
    const made = new WasmStored(checked, this.#memory, this.#heap, (buffer) => this.#isOwn(buffer), {
      bytes: this.#exports.storedBytes(),
      make: this.#exports.makeStored,
    });
    this.#unreachable.register(made, made.address);
    return made;
  }

  #call(entry: Entry, values: readonly unknown[]): number {
    try {
      this.#arguments.write(values);
      const result = entry(this.#argumentsAt, values.length);
      if (this.#arguments.hasCopies) this.#copyOut();
      return result;
    } catch (error) {
      // The error has passed through the module's frames, which are still on its stack.
      this.#exports.__stack_pointer.value = this.#stackTop;
      throw error;
    } finally {
      this.#arguments.clear();
    }
  }

  #copyOut(): void {
    const count = this.#exports.writtenCount();
    for (let i = 0; i < count; i++) this.#arguments.copyOut(this.#written[2 * i], this.#written[2 * i + 1]);
  }

  #kernelMemory(): KernelMemory {
    return {
      floats: (length) => this.#array(Float32Array, length),
      ints: (length) => this.#array(Int32Array, length),
      release: ({ buffer, byteOffset }) => {
        if (!this.#isOwn(buffer) || this.#kept.has(buffer)) return;
        this.#unreachable.unregister(buffer);
        this.#heap.release(byteOffset);
      },
      keep: ({ buffer }) => {
        if (this.#isOwn(buffer)) this.#kept.add(buffer);
      },
      available: () => {
        const machine = availableMemory();
        const bytes = this.#heap.largestBytes;
        return machine.bytes < bytes ? machine : { bytes, where: "in WebAssembly's memory" };
      },
    };
  }

  #array<T>(Type: new (buffer: ArrayBufferLike, at: number, length: number) => T, length: number): T {
    const at = this.#heap.allocate(length * 4);
    const buffer = this.#newBuffer();
    this.#unreachable.register(buffer, at, buffer);
    return new Type(buffer, at, length);
  }

  /** The memory as a buffer of its own, by which the garbage collector tells when all views of an array are gone. */
  #newBuffer(): ArrayBufferLike {
    this.#memory.grow(0);
    const { buffer } = this.#memory;
    this.#known.set(buffer, true);
    return buffer;
  }
}

const WASI_NOT_SUPPORTED = 52;

/** Exports that aren't kernels. */
const HELPERS = {
  __stack_pointer: true,
  __tls_size: true,
  __wasm_init_tls: true,
  _initialize: true,
  memory: true,
  writtenRanges: true,
  writtenCount: true,
  storedBytes: true,
  makeStored: true,
  threadCount: true,
  defaultThreads: true,
  poolOfThread: true,
  chunksOfHelpers: true,
  help: true,
};

const NAP_MS = 0.05;
let mayNap = true;

/** Nothing wakes a thread that waits here. A page's own thread may not wait, so it goes on looking. */
function nap(memory: ArrayBufferLike): void {
  if (!mayNap) return;
  try {
    Atomics.wait(new Int32Array(memory, 0, 1), 0, 0, NAP_MS);
  } catch {
    mayNap = false;
  }
}

function isShared(buffer: ArrayBufferLike): boolean {
  return Object.prototype.toString.call(buffer) === '[object SharedArrayBuffer]';
}
