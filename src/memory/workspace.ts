import type { Kernels } from '../backend/kernels';
import type { Precision } from '../base/precision';
import { requireMemory } from '../base/requireMemory';
import { type IndexView, type MatrixView, Space, viewIn } from './matrixView';

/** Alignment of a slot in elements: 64 bytes of float32, so that different slots share no cache line. */
const ALIGNMENT = 16;

const GROWTH = 1.5;

/** Bytes of the kernels' float type; see Kernels.floatType. */
export function floatBytes({ floatType }: Kernels): number {
  return floatType === 'float64' ? Float64Array.BYTES_PER_ELEMENT : Float32Array.BYTES_PER_ELEMENT;
}

/** The memory of a plan: one float and one int32 array. */
export class PlannedMemory {
  readonly floatSpace: Space<Float32Array>;
  readonly intSpace = new Space<Int32Array>(new Int32Array(0));

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
 * Lays out a workspace: it hands out matrices and counts the memory that they need. Layers plan once per (batch, seq) and
 * then compute with these matrices.
 */
export class Planner {
  floatCount = 0;
  intCount = 0;

  /**
   * @param memory the memory of the matrices. Default: none, for plans that are only counted.
   * @param precision of the products that the plan is for.
   */
  constructor(
    readonly memory: PlannedMemory = new PlannedMemory(new Float32Array(0)),
    readonly precision: Precision = 'float32',
  ) {}

  /** A planner of the same memory that starts at this one's end. */
  behind(precision = this.precision): Planner {
    const planner = new Planner(this.memory, precision);
    planner.floatCount = this.floatCount;
    planner.intCount = this.intCount;
    return planner;
  }

  /** Makes room for what another planner of the same memory has laid out. */
  include({ floatCount, intCount }: Planner): void {
    this.floatCount = Math.max(this.floatCount, floatCount);
    this.intCount = Math.max(this.intCount, intCount);
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
 * Activation memory: one float and one int32 array, which grow when a plan needs more and never shrink. A steady state of
 * forwards and train steps allocates nothing. The contents are valid until the next plan is entered.
 */
export class Workspace extends PlannedMemory {
  constructor(readonly kernels: Kernels) {
    super(kernels.memory.floats(0));
  }

  /**
   * Makes room for a plan. Growing loses the contents. The first growth is to the plan's size, later ones are by at least
   * half, so that a text that gets longer token by token costs few allocations. Views see the new arrays.
   * @throws SgemoeError SGEMOE_MEMORY
   */
  ensure(plan: Planner): void {
    const growth = this.growthBytes(plan);
    if (growth === 0) return;
    requireMemory('The pass', { activations: growth }, this.kernels.memory.available);
    const floats = grown(this.floats.length, plan.floatCount);
    const ints = grown(this.ints.length, plan.intCount);
    const { memory } = this.kernels;
    if (floats > 0) {
      memory.release(this.floats);
      this.floatSpace.data = memory.floats(floats);
    }
    if (ints > 0) {
      memory.release(this.ints);
      this.intSpace.data = memory.ints(ints);
    }
  }

  /** Bytes that `ensure` would allocate. */
  growthBytes({ floatCount, intCount }: Planner): number {
    const floats = grown(this.floats.length, floatCount);
    return (
      floats * floatBytes(this.kernels) + grown(this.ints.length, intCount) * Int32Array.BYTES_PER_ELEMENT
    );
  }
}

/** Length of the array that replaces one of `length` elements; 0 if that has room for `count`. */
function grown(length: number, count: number): number {
  return length >= count ? 0 : Math.max(count, Math.ceil(length * GROWTH));
}

function padded(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}
