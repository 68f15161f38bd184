import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkInteger, checkOptions } from '../base/checks';
import type { KvCacheDtype } from '../base/storageTypes';
import type { LoraOptions } from '../config/loraOptions';
import type { ModelConfig } from '../config/modelConfig';
import { cacheBytes, checkKvCacheDtype, planCache } from '../memory/keyValueCache';
import { ParameterStore } from '../memory/parameters';
import { momentBytes, treeLevels } from '../memory/partition';
import { floatBytes, Planner } from '../memory/workspace';
import { type AssembledParts, assemble, parameterNames, storeAt } from './assemble';
import { type ExpertLayout, expertLayoutOf } from './expertLayout';
import { PlannedExperts } from './expertRows';
import { Lora } from './lora';
import { chosenNames } from './partNames';
import type { ModelParts } from './parts';
import { planPass } from './pass';
import { planHead, planStep } from './stepPlan';

/** Bytes of a model's arrays, its adapters' included. Scratch of the kernels (at most some MB), results and Node itself are not counted. */
export interface MemoryBytes {
  weights: number;
  /** Copies of the weights that `freeze({ pack: true })` keeps (`model.packedBytes`); 0 unless `pack`. */
  packed: number;
  /** Gradients, and those of earlier micro-batches that wait to be summed; 0 unless training. */
  gradients: number;
  /** AdamW's two moments, of several ranks the most that one keeps; 0 unless training. */
  moments: number;
  /** Keys, values and ids of a Decoder's tokens; 0 unless decoding. */
  cache: number;
  /** The workspace (activations, in training with those kept for the backward) and the table of rotary angles. */
  activations: number;
  /** What the library of several ranks keeps to sum what comes from the others over MPI, 16 MiB of up to 128 ranks; 0 for one. */
  exchange: number;
  /**
   * The peak: the sum of the above or, of experts that are divided over ranks, weights and the array from which a rank takes the initial
   * values of one matrix of its experts, if that is more.
   */
  total: number;
}

export interface MemoryOptions {
  /**
   * What the model does: 'forward' computes logits, 'loss' evaluates, 'train' makes train steps; these take `batch` and
   * `seq`. 'decode' is a Decoder and takes `slots`, `contextLength` and `maxStepTokens`. Default 'train'.
   */
  mode?: 'forward' | 'loss' | 'train' | 'decode' | undefined;
  /** B, sequences in a batch; with microBatches or gradAccumulationSteps, sequences in the largest part. */
  batch?: number | undefined;
  /** S, tokens in a sequence. */
  seq?: number | undefined;
  /** For 'train', as in TrainConfig. Default false. */
  gradientCheckpointing?: boolean | undefined;
  /** For 'train' and 'loss': the ranks that share each step; the figures are those of one. Default 1. */
  ranks?: number | undefined;
  /** For 'train': micro-batches of all ranks, as in TrainConfig. Default: one for each rank. */
  microBatches?: number | undefined;
  /**
   * Neighbouring ranks that together have each expert once, a divisor of `ranks`; the figures are those of one that has most experts,
   * with the most gradients and moments that any has, for an even load. Default 1: each has all.
   */
  expertParallel?: number | undefined;
  /** For 'decode', as in DecoderOptions. Default 1. */
  slots?: number | undefined;
  /** For 'decode', as in DecoderOptions. Default: the model's maxSeqLen. */
  contextLength?: number | undefined;
  /** For 'decode', as in DecoderOptions, with its default. */
  maxStepTokens?: number | undefined;
  /** For 'decode', as in DecoderOptions. Default 'float32'. */
  kvCacheDtype?: KvCacheDtype | undefined;
  /** For 'train': the parameters that are trained, as in TrainConfig. Default: all. */
  train?: readonly string[] | undefined;
  /** The adapters that `model.addLora` would make; then these alone are trained. Default: none. */
  lora?: LoraOptions | undefined;
  /** Whether to count the copies that `model.freeze({ pack: true })` makes. Default false. */
  pack?: boolean | undefined;
  /** The kernels, which decide the layout of copies. Default: the process's backend. */
  kernels?: Kernels | undefined;
}

const OPTIONS: readonly (keyof MemoryOptions)[] = [
  'mode',
  'batch',
  'seq',
  'gradientCheckpointing',
  'ranks',
  'microBatches',
  'expertParallel',
  'slots',
  'contextLength',
  'maxStepTokens',
  'kvCacheDtype',
  'train',
  'lora',
  'pack',
  'kernels',
];

const MODES: readonly NonNullable<MemoryOptions['mode']>[] = ['forward', 'loss', 'train', 'decode'];

/** The default of a Decoder's `maxStepTokens`. */
export function defaultStepTokens(slots: number, contextLength: number): number {
  return Math.max(slots, Math.min(256, contextLength));
}

/**
 * The memory of a model before it exists. The model's own layers, without weights, plan the pass that `mode` names, so the
 * figure is exact for the first pass. A workspace that grows later may get up to half larger than its largest pass.
 * @throws TypeError or RangeError for an unknown mode, a size that isn't a positive integer, or micro-batches that the ranks can't share.
 */
export function memoryBytes(config: ModelConfig, options: MemoryOptions): MemoryBytes {
  checkOptions('memoryBytes', options, OPTIONS);
  const { mode = 'train', pack = false, kernels = getKernels() } = options;
  if (!MODES.includes(mode)) {
    throw new RangeError(`memoryBytes: mode must be ${MODES.join(', ')}, got ${String(mode)}`);
  }
  const fullest = fullestRank(config, options);
  const experts = fullest && new PlannedExperts(fullest.own);
  const parts = assemble(config, new ParameterStore(kernels), experts);
  const trained = chooseTrained(parts, options);
  const { cache, ...working } =
    mode === 'decode' ? decoderBytes({ ...parts, kernels }, options) : passing(parts, mode, options);
  const weights = parts.store.weightBytes + (parts.lora?.store.weightBytes ?? 0);
  const { gradients, moments } = mode === 'train' ? updating(config, trained, options, fullest) : NOTHING;
  const packed = pack ? parts.store.copyBytes() : 0;
  const activations = working.activations + (experts ? planned(experts.counts, kernels) : 0);
  const exchange = mode === 'train' || mode === 'loss' ? exchangeBytes(options) : 0;
  const kept = packed + gradients + moments + cache + activations + exchange;
  const drawn = mode === 'train' ? drawnBytes(parts.store) : 0;
  const total = weights + Math.max(kept, drawn);
  return { weights, packed, gradients, moments, cache, activations, exchange, total };
}

/** Bytes of the longest array beside the weights that their first values take for a while. */
function drawnBytes({ tables, kernels }: ParameterStore): number {
  return Math.max(...tables.map(({ drawnApart }) => drawnApart)) * floatBytes(kernels);
}

/** Adds the adapters, and returns the store of what is trained. */
function chooseTrained(parts: AssembledParts, { train, lora }: MemoryOptions): ParameterStore {
  if (lora !== undefined) {
    parts.lora = new Lora(parts, lora);
    parts.lora.attach();
    return parts.lora.store;
  }
  if (train === undefined) return parts.store;
  const chosen = chosenNames('memoryBytes: train', train, parameterNames(parts));
  parts.store.choose((name) => chosen.has(name));
  return parts.store;
}

const NOTHING = { gradients: 0, moments: 0 };

/** The layout of the last rank, which has as many experts as any; null where each has all. */
function fullestRank(
  { nExperts }: ModelConfig,
  { ranks = 1, expertParallel = 1 }: MemoryOptions,
): ExpertLayout | null {
  checkInteger('memoryBytes: ranks', ranks, 1);
  return expertLayoutOf(nExperts, { rank: ranks - 1, size: ranks }, expertParallel);
}

/** Bytes of two pieces of each rank's part of a sum, of 64 KiB or what is more (native/comm/ranks.cc). */
function exchangeBytes({ ranks = 1 }: MemoryOptions): number {
  return ranks === 1 ? 0 : 2 ** 17 * Math.max(ranks, 128);
}

/** What the largest of the ranks keeps beside weights and activations. */
function updating(
  config: ModelConfig,
  trained: ParameterStore,
  { ranks = 1, microBatches = ranks, lora }: MemoryOptions,
  fullest: ExpertLayout | null,
): Pick<MemoryBytes, 'gradients' | 'moments'> {
  checkInteger('memoryBytes: microBatches', microBatches, 1);
  if (microBatches % ranks !== 0) {
    throw new RangeError(
      `microBatches must be a multiple of the number of ranks (${ranks}), got ${microBatches}`,
    );
  }
  const groupSize = fullest?.groupSize ?? 1;
  const stores = Array.from({ length: groupSize }, (_, position) =>
    fullest === null || lora ? trained : storeAt(config, trained, fullest, position),
  );
  const gradients = Math.max(...stores.map(({ mirrorBytes }) => mirrorBytes));
  const moments = Array.from({ length: ranks }, (_, rank) =>
    momentBytes(stores[rank % groupSize], { rank, size: ranks, groupSize }),
  );
  return {
    gradients: (1 + treeLevels(microBatches / ranks)) * gradients,
    moments: Math.max(...moments),
  };
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
  const end = mode === 'forward' ? 'logits' : 'loss';
  const { planner } = planPass(parts, new Planner(), batch as number, seq as number, passMode, end);
  return {
    cache: 0,
    activations: planned(planner, kernels) + ropeBytes(parts.config, kernels, seq as number),
  };
}

/** Bytes of a model's Decoder: the cache, its largest step and its largest head. */
export function decoderBytes(
  parts: ModelParts & { readonly kernels: Kernels },
  options: Pick<MemoryOptions, 'slots' | 'contextLength' | 'maxStepTokens' | 'kvCacheDtype'>,
): Working {
  const { config, kernels } = parts;
  const { slots = 1, contextLength = config.maxSeqLen } = options;
  checkInteger('memoryBytes: slots', slots, 1);
  checkInteger('memoryBytes: contextLength', contextLength, 1);
  const { maxStepTokens = defaultStepTokens(slots, contextLength) } = options;
  checkInteger('memoryBytes: maxStepTokens', maxStepTokens, slots);
  const dtype = checkKvCacheDtype(
    'memoryBytes: kvCacheDtype',
    options.kvCacheDtype ?? 'float32',
    config.headDim,
  );
  const planner = new Planner();
  const perFloat = floatBytes(kernels);
  planCache(planner, config, dtype, slots, contextLength, perFloat);
  const step = planStep(parts, null, planner, maxStepTokens);
  const head = planHead(parts, step.planner, maxStepTokens);
  const { keysAndValues, ids } = cacheBytes(config, dtype, slots, contextLength, perFloat);
  const activations =
    planned(head.planner, kernels) - keysAndValues + ropeBytes(config, kernels, contextLength);
  return { cache: keysAndValues + ids, activations };
}

function planned(
  { floatCount, intCount }: Pick<Planner, 'floatCount' | 'intCount'>,
  kernels: Kernels,
): number {
  return floatCount * floatBytes(kernels) + intCount * Int32Array.BYTES_PER_ELEMENT;
}

/** Bytes of the cosines and sines of `positions` positions. */
function ropeBytes({ headDim }: ModelConfig, kernels: Kernels, positions: number): number {
  return positions * headDim * floatBytes(kernels);
}
