import { totalmem } from 'node:os';
import { ModelConfig, type QueryKeyNormKind } from '../../config/modelConfig';
import { asUsage, UsageError } from '../terminal/usageError';

/** The options that say what model it is. */
export interface ModelCliOptions {
  preset?: 'tiny' | 'small';
  hiddenDim?: number;
  layers?: number;
  heads?: number;
  kvHeads?: number;
  headDim?: number;
  experts?: number;
  topKExperts?: number;
  ffnDim?: number;
  qkNorm?: QueryKeyNormKind;
  embeddingMultiplier?: number;
}

export const MODEL_OPTIONS: readonly (keyof ModelCliOptions)[] = [
  ...(['preset', 'hiddenDim', 'layers', 'heads', 'kvHeads', 'headDim', 'experts', 'topKExperts'] as const),
  ...(['ffnDim', 'qkNorm', 'embeddingMultiplier'] as const),
];

/** What a run does without options: about a million parameters, chosen by measuring on 1 MB of plays. */
export const DEFAULT_SIZES = {
  hiddenDim: 128,
  layers: 4,
  heads: 4,
  kvHeads: 2,
  experts: 4,
  topKExperts: 2,
  ffnDim: 128,
} as const;

export const DEFAULT_RECIPE = {
  seqLen: 128,
  batchSize: 16,
  steps: 1200,
  lr: 3e-3,
  weightDecay: 0.1,
  gradClip: 1,
  auxLoss: 0.01,
  evalInterval: 100,
  evalBatches: 20,
} as const;

const MOST_WARMUP_STEPS = 100;

/** A tenth of the steps, at most 100. */
export function defaultWarmup(steps: number): number {
  return Math.min(MOST_WARMUP_STEPS, Math.floor(steps / 10));
}

/** Field of ModelConfig -> option of the command line. */
const FLAGS: Record<string, string> = {
  hiddenDim: '--hidden-dim',
  nLayers: '--layers',
  nHeads: '--heads',
  nKvHeads: '--kv-heads',
  headDim: '--head-dim',
  nExperts: '--experts',
  topKExperts: '--top-k-experts',
  ffnDim: '--ffn-dim',
  maxSeqLen: '--seq-len',
};

/**
 * The model that the options ask for; the vocabulary is the tokenizer's, and it looks as far back as it is trained to.
 * @throws UsageError, in the words of the options, for sizes that don't fit together.
 */
export function modelConfig(options: ModelCliOptions, vocabSize: number, seqLen: number): ModelConfig {
  const { preset, qkNorm, embeddingMultiplier } = options;
  const sizes = preset === undefined ? defaults() : fromPreset(ModelConfig[preset]());
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const { hiddenDim, layers, heads, kvHeads, experts, topKExperts, ffnDim, headDim } = {
    ...sizes,
    ...(given as ModelCliOptions),
  };
  const config = asUsage(
    () =>
      new ModelConfig({
        hiddenDim,
        nLayers: layers,
        nHeads: heads,
        nKvHeads: kvHeads,
        headDim: headDim ?? evenHeadDim(hiddenDim, heads),
        nExperts: experts,
        topKExperts,
        ffnDim,
        vocabSize,
        maxSeqLen: seqLen,
        qkNorm,
        embeddingMultiplier,
      }),
    inFlags,
  );
  checkMemory(config);
  return config;
}

/** Training keeps four numbers for each parameter: weight, gradient and AdamW's two moments. */
const BYTES_PER_PARAMETER = 16;

function checkMemory(config: ModelConfig): void {
  const needed = config.totalParams() * BYTES_PER_PARAMETER;
  if (needed <= totalmem()) return;
  const gigabytes = (bytes: number) => (bytes / 1e9).toLocaleString('en', { maximumSignificantDigits: 3 });
  throw new UsageError(
    `A model of ${config.totalParams().toLocaleString('en')} parameters needs ${gigabytes(needed)} GB to train, ` +
      `this machine has ${gigabytes(totalmem())} GB: make it smaller with --hidden-dim, --layers, --experts, --ffn-dim.`,
  );
}

interface Sizes {
  hiddenDim: number;
  layers: number;
  heads: number;
  kvHeads: number;
  experts: number;
  topKExperts: number;
  ffnDim: number;
  /** Default: hiddenDim / heads, so that it follows when one of these is given. */
  headDim?: number;
}

function defaults(): Sizes {
  return { ...DEFAULT_SIZES };
}

function fromPreset(config: ModelConfig): Sizes {
  const { hiddenDim, nLayers, nHeads, nKvHeads, nExperts, topKExperts, ffnDim } = config;
  return {
    hiddenDim,
    layers: nLayers,
    heads: nHeads,
    kvHeads: nKvHeads,
    experts: nExperts,
    topKExperts,
    ffnDim,
  };
}

function evenHeadDim(hiddenDim: number, heads: number): number {
  const headDim = hiddenDim / heads;
  if (Number.isInteger(headDim) && headDim % 2 === 0) return headDim;
  throw new UsageError(
    `--hidden-dim (${hiddenDim}) divided by --heads (${heads}) must be an even integer; give --head-dim for another.`,
  );
}

function inFlags(message: string): string {
  return message.replace(/^ModelConfig: /, '').replaceAll(/\w+/g, (word) => FLAGS[word] ?? word);
}
