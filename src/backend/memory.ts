import { availableMemory } from '../base/machineMemory';
import type { KernelMemory } from './kernelMemory';
import type { Kernels } from './kernels';

/** Elements to which arrays are aligned: 64 bytes of float32. */
const ALIGNMENT = 16;

/** The process's memory: arrays with buffers of their own. */
export function processMemory(
  kernels: Pick<Kernels, 'floatType' | 'adviseHugePages' | 'alignmentPadding'>,
  mapFile?: KernelMemory['mapFile'],
): KernelMemory {
  // float64 hides behind the same type when the kernels compute in it.
  const FloatArray = (
    kernels.floatType === 'float64' ? Float64Array : Float32Array
  ) as Float32ArrayConstructor;
  return {
    floats(length, shared = false) {
      if (length === 0 && !shared) return new FloatArray(0);
      const bytes = (length + ALIGNMENT) * FloatArray.BYTES_PER_ELEMENT;
      // A page without cross-origin isolation has none, and no thread to share with.
      const Buffer = shared && typeof SharedArrayBuffer === 'function' ? SharedArrayBuffer : ArrayBuffer;
      const all = new FloatArray(new Buffer(bytes));
      kernels.adviseHugePages(all);
      const padding = kernels.alignmentPadding(all);
      return all.subarray(padding, padding + length);
    },
    ints: (length) => new Int32Array(length),
    release() {},
    keep() {},
    ...(mapFile && { mapFile }),
    available: () => availableMemory(),
  };
}
