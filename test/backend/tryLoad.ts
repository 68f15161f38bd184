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

/** Instruction sets that are built for this processor, the plainest first, whether this machine has them or not. */
export const INSTRUCTION_SETS: readonly string[] = {
  arm64: ['neon', 'neondot', 'neoni8mm'],
  x64: ['baseline', 'avx2', 'avxvnni', 'avx512', 'avx512vnni'],
}[process.arch as string] ?? ['baseline'];
