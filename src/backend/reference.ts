import type { BackendInfo, Kernels } from './kernels';
import { processMemory } from './memory';
import { attention } from './reference/attention';
import { attentionStored } from './reference/attentionStored';
import {
  checked,
  checkParts,
  checkType,
  type Definitions,
  type FloatType,
  type KernelName,
  requireInteger,
} from './reference/checks';
import { elementwise } from './reference/elementwise';
import { loss } from './reference/loss';
import { matmul } from './reference/matmul';
import { random } from './reference/random';
import { routing } from './reference/routing';
import { rowKernels } from './reference/rows';
import { sampling } from './reference/sampling';
import { stored } from './reference/stored';

export interface ReferenceOptions {
  /**
   * 'float32' (default): arrays are float32; sums are float64 and rounded once, when they are stored. 'float64':
   * every float argument is a Float64Array, whatever its declared type, and nothing is rounded, which allows
   * finite differences on whole models.
   */
  readonly floatType?: FloatType | undefined;
  /** Why no faster backend is in use, for `info.notes`. */
  readonly notes?: readonly string[] | undefined;
}

const DEFINITIONS: Definitions<KernelName> = {
  ...matmul,
  ...elementwise,
  ...rowKernels,
  ...attention,
  ...attentionStored,
  ...routing,
  ...sampling,
  ...loss,
  ...random,
  ...stored,
};

/**
 * The kernels in plain TypeScript: the definition of each kernel, the oracle of the addon's tests, and the fallback
 * where no addon loads. Everything runs on the calling thread: `setThreads` checks its argument and changes
 * nothing, `info.threads` is 1.
 */
export function createReferenceKernels(options: ReferenceOptions = {}): Kernels {
  const { floatType = 'float32', notes = [] } = options;
  const info: BackendInfo = {
    backend: 'reference',
    request: 'reference',
    platform: `${process.platform}-${process.arch}`,
    blas: null,
    instructionSet: 'none',
    threads: 1,
    exactProducts: true,
    matrixUnit: 'none',
    matmul: 'fma',
    addonPath: null,
    notes: [...notes],
  };
  const names = Object.keys(DEFINITIONS) as KernelName[];
  const kernels = Object.fromEntries(
    names.map((name) => [name, checked(name, DEFINITIONS[name], floatType)]),
  );
  const pool: Pick<Kernels, 'setThreads' | 'alignmentPadding' | 'adviseHugePages'> = {
    setThreads(threads) {
      checkType('setThreads', { name: 'threads', kind: 'size' }, threads, floatType);
      requireInteger('setThreads', 'threads', threads, 1, 257);
    },
    alignmentPadding(x) {
      checkType('alignmentPadding', { name: 'x', kind: 'floats' }, x, floatType);
      return 0;
    },
    adviseHugePages(x) {
      checkType('adviseHugePages', { name: 'x', kind: 'floats' }, x, floatType);
    },
  };
  return {
    info,
    floatType,
    memory: processMemory({ floatType, ...pool }),
    ...pool,
    storedMatrices: checkParts,
    ...(kernels as unknown as Pick<Kernels, KernelName>),
  };
}
