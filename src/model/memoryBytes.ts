import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkInteger, checkOptions } from '../base/checks';
import type { ModelConfig } from '../config/modelConfig';
import { cacheBytes, planCache } from '../memory/keyValueCache';
import { ParameterStore } from '../memory/parameters';
import { floatBytes, Planner } from '../memory/workspace';
import { type AssembledParts, assemble } from './assemble';
import { type ModelParts, planPass } from './pass';
import { planHead, planStep } from './stepPlan';

/** What a model's arrays take, in bytes. Scratch of the kernels (some MB at most), results and Node itself come on top. */
export interface MemoryBytes {
  weights: number;
  /** Copies of the weights that `freeze({ pack: true })` keeps (`model.packedBytes`); 0 unless `pack`. */
  packed: number;
  /** 0 unless training. */
  gradients: number;
  /** AdamW's two moments; 0 unless training. */
  moments: number;
  /** Keys, values and ids of a Decoder's tokens; 0 unless decoding. */
  cache: number;
  /** The workspace: what the layers hand on and, in training, keep for the backward; and the table of rotary angles. */
  activations: number;
  /** The sum of all of them. */
  total: number;
}

export interface MemoryOptions {
  /**
   * 'forward': logits; 'loss': evaluation; 'train': a train step; these three take `batch` and `seq`. 'decode': a Decoder, which
   * takes `slots`, `contextLength` and `maxStepTokens`. Default 'train'.
   */
  mode?: 'forward' | 'loss' | 'train' | 'decode' | undefined;
  /** Sequences in a batch, B. With gradAccumulationSteps: the most that a part has. */
  batch?: number | undefined;
  /** Tokens in a sequence, S. */
  seq?: number | undefined;
  /** With 'train': as the TrainConfig's. Default false. */
  gradientCheckpointing?: boolean | undefined;
  /** With 'decode': as DecoderOptions. Default 1. */
  slots?: number | undefined;
  /** With 'decode': as DecoderOptions. Default: the model's maxSeqLen. */
  contextLength?: number | undefined;
  /** With 'decode': as DecoderOptions. */
  maxStepTokens?: number | undefined;
  /** Count the copies that `model.freeze({ pack: true })` makes. Default false. */
  pack?: boolean | undefined;
  /** What computes, which decides how copies are laid out. Default: the process's backend. */
  kernels?: Kernels | undefined;
}

const OPTIONS: readonly (keyof MemoryOptions)[] = [
  ...(['mode', 'batch', 'seq', 'gradientCheckpointing'] as const),
  ...(['slots', 'contextLength', 'maxStepTokens', 'pack', 'kernels'] as const),
];

const MODES: readonly NonNullable<MemoryOptions['mode']>[] = ['forward', 'loss', 'train', 'decode'];

/** A Decoder's `maxStepTokens` unless it is given. */
export function defaultStepTokens(slots: number, contextLength: number): number {
  return Math.max(slots, Math.min(256, contextLength));
}

/**
 * The memory of a model before it exists, as the model itself would ask for it: its layers are put together without
 * weights, and the pass that `mode` names is planned. Exact for the first pass; a workspace that has to grow later may get
 * up to half larger than its largest pass.
 * @throws TypeError or RangeError for an unknown mode, a size that isn't a positive integer.
 */
export function memoryBytes(config: ModelConfig, options: MemoryOptions): MemoryBytes {
  checkOptions('memoryBytes', options, OPTIONS);
  const { mode = 'train', pack = false, kernels = getKernels() } = options;
  if (!MODES.includes(mode)) {
    throw new RangeError(`memoryBytes: mode must be ${MODES.join(', ')}, got ${String(mode)}`);
  }
  const parts = assemble(config, new ParameterStore(kernels));
  const { cache, activations } =
    mode === 'decode' ? decoderBytes({ ...parts, kernels }, options) : passing(parts, mode, options);
  const { weightBytes: weights, mirrorBytes } = parts.store;
  const gradients = mode === 'train' ? mirrorBytes : 0;
  const moments = 2 * gradients;
  const packed = pack ? parts.store.copyBytes() : 0;
  const total = weights + packed + gradients + moments + cache + activations;
  return { weights, packed, gradients, moments, cache, activations, total };
}

type Working = Pick<MemoryBytes, 'cache' | 'activations'>;

function passing(
  parts: AssembledParts,
  mode: 'forward' | 'loss' | 'train',
  { batch, seq, gradientCheckpointing = false }: MemoryOptions,
): Working {
  checkInteger('memoryBytes: batch', batch as number, 1);
  checkInteger('memoryBytes: seq', seq as number, 1);
  const passMode = mode === 'train' && gradientCheckpointing ? 'recompute' : mode;
  const { kernels } = parts.store;
  const { planner } = planPass(parts, new Planner(), batch as number, seq as number, passMode);
  return {
    cache: 0,
    activations: planned(planner, kernels) + ropeBytes(parts.config, kernels, seq as number),
  };
}

/** What a Decoder of a model takes: the cache, its largest step, its largest head. */
export function decoderBytes(
  parts: ModelParts & { readonly kernels: Kernels },
  options: Pick<MemoryOptions, 'slots' | 'contextLength' | 'maxStepTokens'>,
): Working {
  const { config, kernels } = parts;
  const { slots = 1, contextLength = config.maxSeqLen } = options;
  checkInteger('memoryBytes: slots', slots, 1);
  checkInteger('memoryBytes: contextLength', contextLength, 1);
  const { maxStepTokens = defaultStepTokens(slots, contextLength) } = options;
  checkInteger('memoryBytes: maxStepTokens', maxStepTokens, slots);
  const planner = new Planner();
  planCache(planner, config, slots, contextLength);
  const step = planStep(parts, null, planner, maxStepTokens);
  const head = planHead(parts, step.planner, maxStepTokens);
  const cache = cacheBytes(config, slots, contextLength, floatBytes(kernels));
  const ids = slots * contextLength * Int32Array.BYTES_PER_ELEMENT;
  const activations =
    planned(head.planner, kernels) - (cache - ids) + ropeBytes(config, kernels, contextLength);
  return { cache, activations };
}

function planned({ floatCount, intCount }: Planner, kernels: Kernels): number {
  return floatCount * floatBytes(kernels) + intCount * Int32Array.BYTES_PER_ELEMENT;
}

/** Cosines and sines of `positions` positions. */
function ropeBytes({ headDim }: ModelConfig, kernels: Kernels, positions: number): number {
  return positions * headDim * floatBytes(kernels);
}
