import type { Kernels } from '../backend/kernels';

/** Elements to which every slot is padded: 64 bytes of float32, so that rows of different slots share no cache line. */
const ALIGNMENT = 16;

const GROWTH = 1.5;

/** Bytes of a number that the kernels compute with; see Kernels.floatType. */
export function floatBytes({ floatType }: Kernels): number {
  return floatType === 'float64' ? Float64Array.BYTES_PER_ELEMENT : Float32Array.BYTES_PER_ELEMENT;
}

/**
 * Lays out a workspace: hands out offsets, remembers how much is needed. Layers plan once per (batch, seq); computing
 * then uses offsets only.
 */
export class Planner {
  floatCount = 0;
  intCount = 0;

  /** Offset of `n` floats. */
  floats(n: number): number {
    const offset = this.floatCount;
    this.floatCount += Math.ceil(n / ALIGNMENT) * ALIGNMENT;
    return offset;
  }

  /** Offset of `n` int32. */
  ints(n: number): number {
    const offset = this.intCount;
    this.intCount += Math.ceil(n / ALIGNMENT) * ALIGNMENT;
    return offset;
  }
}

/**
 * Activation memory: one float and one int32 array, grown when a plan needs more, never shrunk. A steady state of
 * forwards and train steps allocates nothing. What it holds is valid until the next plan is entered.
 */
export class Workspace {
  floats: Float32Array;
  ints: Int32Array = new Int32Array(0);

  constructor(readonly kernels: Kernels) {
    this.floats = allocate(kernels, 0);
  }

  /**
   * Makes room for a plan. Contents are lost when it has to grow: to the plan's size at first, by half at least
   * afterwards, so that a text that gets longer token by token costs few allocations.
   */
  ensure({ floatCount, intCount }: Planner): void {
    const { floats, ints } = this;
    if (floats.length < floatCount) {
      this.floats = allocate(this.kernels, Math.max(floatCount, Math.ceil(floats.length * GROWTH)));
    }
    if (ints.length < intCount) {
      this.ints = new Int32Array(Math.max(intCount, Math.ceil(ints.length * GROWTH)));
    }
  }
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
