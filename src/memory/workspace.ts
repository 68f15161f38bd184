import type { Kernels } from '../backend/kernels';
import { requireMemory } from '../base/requireMemory';
import { type IndexView, type MatrixView, Space, viewIn } from './matrixView';

/** Elements to which every slot is padded: 64 bytes of float32, so that rows of different slots share no cache line. */
const ALIGNMENT = 16;

const GROWTH = 1.5;

/** Bytes of a number that the kernels compute with; see Kernels.floatType. */
export function floatBytes({ floatType }: Kernels): number {
  return floatType === 'float64' ? Float64Array.BYTES_PER_ELEMENT : Float32Array.BYTES_PER_ELEMENT;
}

/** One float and one int32 array. */
export class PlannedMemory {
  readonly floatSpace: Space<Float32Array>;
  readonly intSpace = new Space(new Int32Array(0));

  constructor(floats: Float32Array) {
    this.floatSpace = new Space(floats);
  }

  get floats(): Float32Array {
    return this.floatSpace.data;
  }

  get ints(): Int32Array {
    return this.intSpace.data;
  }
}

/**
 * Lays out a workspace: hands out matrices in it, remembers how much is needed. Layers plan once per (batch, seq);
 * computing then uses what they were given.
 */
export class Planner {
  floatCount = 0;
  intCount = 0;

  /** @param memory that the matrices will lie in. Default: none, where only the counts matter. */
  constructor(readonly memory: PlannedMemory = new PlannedMemory(new Float32Array(0))) {}

  /** A planner of the same memory that goes on behind this one. */
  behind(): Planner {
    const planner = new Planner(this.memory);
    planner.floatCount = this.floatCount;
    planner.intCount = this.intCount;
    return planner;
  }

  /** A float matrix [rows,cols]; without cols a vector [rows]. */
  floats(rows: number, cols = 1): MatrixView {
    const at = this.floatCount;
    this.floatCount += padded(rows * cols);
    return viewIn(this.memory.floatSpace, at, rows, cols);
  }

  /** An int32 matrix [rows,cols]; without cols a vector [rows]. */
  ints(rows: number, cols = 1): IndexView {
    const at = this.intCount;
    this.intCount += padded(rows * cols);
    return viewIn(this.memory.intSpace, at, rows, cols);
  }
}

/**
 * Activation memory: one float and one int32 array, grown when a plan needs more, never shrunk. A steady state of
 * forwards and train steps allocates nothing. What it holds is valid until the next plan is entered.
 */
export class Workspace extends PlannedMemory {
  constructor(readonly kernels: Kernels) {
    super(allocate(kernels, 0));
  }

  /**
   * Makes room for a plan. Contents are lost when it has to grow: to the plan's size at first, by half at least
   * afterwards, so that a text that gets longer token by token costs few allocations. Views see the new arrays.
   * @throws SgemoeError SGEMOE_MEMORY
   */
  ensure(plan: Planner): void {
    const growth = this.growthBytes(plan);
    if (growth === 0) return;
    requireMemory('The pass', { activations: growth });
    const floats = grown(this.floats.length, plan.floatCount);
    const ints = grown(this.ints.length, plan.intCount);
    if (floats > 0) this.floatSpace.data = allocate(this.kernels, floats);
    if (ints > 0) this.intSpace.data = new Int32Array(ints);
  }

  /** Bytes that `ensure` would allocate. */
  growthBytes({ floatCount, intCount }: Planner): number {
    const floats = grown(this.floats.length, floatCount);
    return (
      floats * floatBytes(this.kernels) + grown(this.ints.length, intCount) * Int32Array.BYTES_PER_ELEMENT
    );
  }
}

/** Length of the array that takes the place of one of `length`; 0 where that has room for `count`. */
function grown(length: number, count: number): number {
  return length >= count ? 0 : Math.max(count, Math.ceil(length * GROWTH));
}

function padded(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

function allocate(kernels: Kernels, size: number): Float32Array {
  // As in parameters.ts: float64 hides behind the same type when the kernels compute in it.
  const FloatArray = (
    kernels.floatType === 'float64' ? Float64Array : Float32Array
  ) as Float32ArrayConstructor;
  if (size === 0) return new FloatArray(0);
  const all = new FloatArray(size + ALIGNMENT);
  kernels.adviseHugePages(all);
  const padding = kernels.alignmentPadding(all);
  return all.subarray(padding, padding + size);
}
