import type { Kernels } from '../../src/backend/kernels';
import { loadNativeKernels, type NativeOptions } from '../../src/backend/native';

/** The kernels, or null where this machine can't provide them. */
export function tryLoad(options: NativeOptions): Kernels | null {
  try {
    return loadNativeKernels(options);
  } catch {
    return null;
  }
}

/** Those of x86-64 or arm64, whether this machine and this build have them or not. */
export const INSTRUCTION_SETS = process.arch === 'arm64' ? ['baseline', 'neon'] : ['baseline', 'avx2', 'avx512'];
