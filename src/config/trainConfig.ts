import {
  boolean,
  choice,
  integer,
  number,
  type OptionTable,
  resolveOptions,
  someOf,
  texts,
} from '../base/options';
import { PRECISIONS, type Precision } from '../base/precision';

export const SCHEDULES = ['cosine', 'linear', 'constant'] as const;
export type Schedule = (typeof SCHEDULES)[number];

export const DECAY_EXCLUSIONS = ['norms', 'embeddings', 'biases'] as const;
export type DecayExclusion = (typeof DECAY_EXCLUSIONS)[number];

/** Options of a training; undefined means the default. */
export interface TrainConfig {
  /** Peak learning rate. Default 1e-4. */
  lr?: number | undefined;
  /** Decay of the first moment. Default 0.9. */
  beta1?: number | undefined;
  /** Decay of the second moment. Default 0.95. */
  beta2?: number | undefined;
  /** Added to the root of the second moment. Default 1e-8. */
  eps?: number | undefined;
  /** Decoupled weight decay. Default 0.1. */
  weightDecay?: number | undefined;
  /**
   * Parameters that don't decay: the gains of 'norms', 'embeddings' (tied ones are the lm_head too, which then doesn't
   * decay either), 'biases'. Default []: every parameter decays.
   */
  weightDecayExclude?: readonly DecayExclusion[] | undefined;
  /** Largest global gradient norm; Infinity switches clipping off. Default 1. */
  gradClip?: number | undefined;
  /** Steps of linear warmup. Default 1000. */
  warmupSteps?: number | undefined;
  /** Step at which a falling schedule reaches minLrRatio * lr. Default 100000. */
  totalSteps?: number | undefined;
  /** The course of the learning rate after the warmup; `Trainer.getLr` has the formulas. Default 'cosine'. */
  schedule?: Schedule | undefined;
  /** Lowest learning rate over lr, in [0, 1]; 'constant' doesn't fall. Default 0.1. */
  minLrRatio?: number | undefined;
  /** Weight of the load-balancing loss. Default: the model config's routerAuxLossCoef. */
  auxLossAlpha?: number | undefined;
  /** Weight of the router z-loss, the mean squared log-sum-exp of the router logits. Default 0: off. */
  zLossCoef?: number | undefined;
  /**
   * Balances the experts without a loss: after each step, every router's selection bias moves by this amount, up for experts
   * with less than the mean load of the batch, down for those with more (Wang et al. 2024). 1e-3 is usual, with or without
   * an auxLossAlpha. 0 leaves the biases as they are; they still take part in the choice. Default 0.
   */
  routerBiasUpdateRate?: number | undefined;
  /**
   * Micro-batches of a step, which the ranks of a run share: the gradients of the B / microBatches sequences of each are summed in a
   * fixed tree over micro-batches and ranks. So runs on 1, 2, 4, .. ranks have the same bits where this number is the same, and a
   * multiple of the ranks by a power of two. Default: the number of ranks.
   */
  microBatches?: number | undefined;
  /**
   * As what gradients travel between ranks. 'bfloat16' rounds what a rank sends: half of the bytes of the gradients, three quarters of
   * all that a step sends, for an error of at most 2^-9 of each gradient that came from another rank. Runs on other numbers of ranks then
   * differ by that. Sums, weights and moments are float32. Default 'float32'.
   */
  commDtype?: Precision | undefined;
  /**
   * Parts of a micro-batch: its sequences pass the model in this many parts, one after the other, and need the
   * memory of one part. The cross-entropy gradient equals that of the whole batch. Balance loss and z-loss are computed for
   * each part and weighted by its tokens, which differs from the whole batch (f and P are means of the part). Default 1.
   */
  gradAccumulationSteps?: number | undefined;
  /**
   * Keeps only the input of each block until the backward, which computes the block again from it (activation
   * recomputation): less memory (`memoryBytes`) for up to a third more time, the same results to the bit. Default false.
   */
  gradientCheckpointing?: boolean | undefined;
  /**
   * Precision of the products by weight matrices, forwards and backwards. 'bfloat16' is mixed precision: several times as fast on
   * a processor that multiplies bfloat16 (`info.matrixUnit`), no faster elsewhere. It takes the memory of 'float32'. Default 'float32'.
   */
  precision?: Precision | undefined;
  /** Target that is neither learnt nor counted, such as the tokens of a prompt. Default -100. */
  ignoreIndex?: number | undefined;
  /**
   * The parameters that are trained, by parts of their names between dots, with * for any text: 'experts.*.w2',
   * 'layers.3.self_attn'; or by the words 'router', 'attention', 'norms', 'embedding'. The others stay as they are and need
   * no gradient and no moments. A model with adapters trains these alone, whatever this says. Default: all.
   */
  train?: readonly string[] | undefined;
}

/** TrainConfig with all defaults filled in. */
export type ResolvedTrainConfig = { readonly [K in keyof TrainConfig]-?: Exclude<TrainConfig[K], undefined> };

/** Target that does not count, as in PyTorch. */
export const IGNORE_INDEX = -100;

/** The smallest normal float32; with a smaller eps a weight that never had a gradient would move by 0/0. */
const SMALLEST_EPS = 2 ** -126;

const SHARE = { min: 0, below: 1 };

/** Flags of `sgemoe train`, with defaults that suit the small models and short runs of its default sizes. */
export const TRAIN_OPTIONS: OptionTable<TrainConfig> = {
  totalSteps: integer(
    { min: 1 },
    {
      doc: 'step at which a falling schedule reaches minLrRatio * lr',
      default: 100_000,
      cli: { flag: '--steps <n>', doc: 'steps to make', default: 1200 },
    },
  ),
  lr: number(
    { min: 0 },
    {
      doc: 'highest learning rate, reached after the warmup',
      default: 1e-4,
      cli: { flag: '--lr <x>', default: 3e-3 },
    },
  ),
  warmupSteps: integer(
    { min: 0 },
    {
      doc: 'steps of rising learning rate',
      default: 1000,
      cli: { flag: '--warmup <n>', absent: 'a tenth of --steps, at most 100' },
    },
  ),
  schedule: choice(SCHEDULES, {
    doc: 'how the learning rate changes from the warmup to the last step',
    default: 'cosine',
    cli: { flag: '--schedule <name>' },
  }),
  minLrRatio: number(
    { min: 0, max: 1 },
    {
      doc: 'share of the highest learning rate to which cosine and linear fall',
      default: 0.1,
      cli: { flag: '--min-lr-ratio <x>' },
    },
  ),
  weightDecay: number(
    { min: 0 },
    { doc: 'decoupled weight decay of AdamW', default: 0.1, cli: { flag: '--weight-decay <x>' } },
  ),
  weightDecayExclude: someOf(DECAY_EXCLUSIONS, {
    doc: 'parts that do not decay; embeddings include an lm_head that is the embedding table',
    default: [],
    cli: { flag: '--weight-decay-exclude <parts...>', absent: 'everything decays' },
  }),
  beta1: number(SHARE, { doc: "decay of AdamW's first moment", default: 0.9, cli: { flag: '--beta1 <x>' } }),
  beta2: number(SHARE, {
    doc: "decay of AdamW's second moment",
    default: 0.95,
    cli: { flag: '--beta2 <x>' },
  }),
  eps: number(
    { min: SMALLEST_EPS },
    { doc: "added to the root of AdamW's second moment", default: 1e-8, cli: { flag: '--eps <x>' } },
  ),
  gradClip: number(
    { above: 0 },
    {
      doc: 'largest global gradient norm',
      note: 'Infinity is no limit',
      default: 1,
      cli: {
        flag: '--grad-clip <x>',
        note: '0 is no limit',
        kind: number({ min: 0 }, { doc: '' }),
        toOption: (norm: number) => (norm === 0 ? Number.POSITIVE_INFINITY : norm),
      },
    },
    Number.POSITIVE_INFINITY,
  ),
  auxLossAlpha: number(
    { min: 0 },
    {
      doc: "weight of the experts' balance loss",
      absent: "the model's routerAuxLossCoef",
      cli: { flag: '--aux-loss <x>', default: 0.01 },
    },
  ),
  zLossCoef: number(
    { min: 0 },
    {
      doc: "weight of the router's z-loss, the mean squared log-sum-exp of its logits",
      note: '0 is off',
      default: 0,
      cli: { flag: '--z-loss <x>' },
    },
  ),
  routerBiasUpdateRate: number(
    { min: 0 },
    {
      doc:
        'after each step, move the bias by which experts are chosen this far towards an even load (1e-3 is usual), instead of ' +
        'or in addition to the balance loss',
      note: '0 is off',
      default: 0,
      cli: { flag: '--router-bias-update-rate <x>' },
    },
  ),
  microBatches: integer(
    { min: 1 },
    {
      doc: 'parts of a batch that the ranks of a run share: a multiple of their number; the same steps for each such number',
      absent: 'the number of ranks',
      cli: { flag: '--micro-batches <n>' },
    },
  ),
  commDtype: choice(PRECISIONS, {
    doc: 'as what gradients travel between ranks; bfloat16 takes half of their bytes, and other numbers of ranks then differ by its rounding',
    default: 'float32',
    cli: { flag: '--comm-dtype <name>' },
  }),
  gradAccumulationSteps: integer(
    { min: 1 },
    {
      doc: 'parts into which a micro-batch is cut and computed one after the other, to save memory',
      default: 1,
      cli: { flag: '--grad-accumulation <n>', note: 'at most --batch-size' },
    },
  ),
  gradientCheckpointing: boolean({
    doc: "keep only each block's input for the backward and compute the rest again: less memory, more time, the same results",
    default: false,
    cli: { flag: '--gradient-checkpointing', absent: 'keep all' },
  }),
  precision: choice(PRECISIONS, {
    doc:
      'what products by weight matrices multiply; bfloat16 is mixed precision, faster only on a processor that multiplies bfloat16, with ' +
      'weights, moments, routers, norms, attention and loss in float32',
    default: 'float32',
    cli: { flag: '--precision <name>' },
  }),
  ignoreIndex: integer(
    { below: 0 },
    {
      doc: 'target that is neither learnt nor counted, such as the tokens of a prompt',
      default: IGNORE_INDEX,
    },
  ),
  train: texts({
    doc:
      'the parameters to train, by parts of their names (experts.*.w2, layers.3.self_attn, lm_head) or the words router, ' +
      'attention, norms, embedding; the others stay as they are, without gradients and moments',
    default: ['*'],
    absent: 'all',
    cli: { flag: '--train <parts...>', absent: 'all' },
  }),
};

/**
 * The options with the defaults filled in, frozen.
 * @param auxLossAlpha the model's. @param ranks that share a step.
 * @throws TypeError for an unknown option or a value of another type, RangeError for one out of range.
 */
export function resolveTrainConfig(
  options: TrainConfig,
  auxLossAlpha: number,
  ranks = 1,
): ResolvedTrainConfig {
  const config = resolveOptions('TrainConfig', TRAIN_OPTIONS, options);
  if (config.microBatches === undefined) config.microBatches = ranks;
  if (config.auxLossAlpha === undefined) config.auxLossAlpha = auxLossAlpha;
  return Object.freeze(config as ResolvedTrainConfig);
}
