export const SCHEDULES = ['cosine', 'linear', 'constant'] as const;
export type Schedule = (typeof SCHEDULES)[number];

export const DECAY_EXCLUSIONS = ['norms', 'embeddings', 'biases'] as const;
export type DecayExclusion = (typeof DECAY_EXCLUSIONS)[number];

export interface TrainConfig {
  /** Peak learning rate. Default 1e-4. */
  lr: number;
  /** Decay of the first moment. Default 0.9. */
  beta1: number;
  /** Decay of the second moment. Default 0.95. */
  beta2: number;
  /** Added to the root of the second moment. Default 1e-8. */
  eps: number;
  /** Decoupled weight decay. Default 0.1. */
  weightDecay: number;
  /**
   * Parameters that don't decay: the gains of 'norms', 'embeddings' (tied ones are the lm_head too, which then doesn't
   * decay either), 'biases'. Default []: every parameter decays.
   */
  weightDecayExclude: readonly DecayExclusion[];
  /** Largest global gradient norm; Infinity switches clipping off. Default 1. */
  gradClip: number;
  /** Steps of linear warmup. Default 1000. */
  warmupSteps: number;
  /** Step at which a schedule that falls has come down to minLrRatio * lr. Default 100000. */
  totalSteps: number;
  /** How the learning rate goes on after the warmup; `Trainer.getLr` has the formulas. Default 'cosine'. */
  schedule: Schedule;
  /** Lowest learning rate over lr, in [0, 1]; 'constant' doesn't fall. Default 0.1. */
  minLrRatio: number;
  /** Weight of the load-balancing loss. Default: the model config's routerAuxLossCoef. */
  auxLossAlpha: number;
  /** Weight of the router z-loss, the mean squared log-sum-exp of the router logits. Default 0: off. */
  zLossCoef: number;
  /**
   * Balances the experts without a loss: after each step, every router's selection bias moves by so much, up for experts
   * with less than the mean load of the batch, down for those with more (Wang et al. 2024). 1e-3 is usual; it works with
   * auxLossAlpha 0 or beside it. 0 leaves the biases as they are, which still take part in the choice. Default 0.
   */
  routerBiasUpdateRate: number;
  /**
   * Micro-batches a step: a batch of B sequences goes through the model in so many parts, one after the other, and
   * needs the memory of one. The cross-entropy gradient equals the big batch's; the balance and z-loss are taken in
   * each part and weighted by its tokens, which is not the big batch's (f and P are means of the part). Default 1.
   */
  gradAccumulationSteps: number;
  /**
   * Keeps only the input of each block until the backward, which computes the block again from it (activation
   * recomputation): less memory (`memoryBytes`) for up to a third more time, the same results to the bit. Default false.
   */
  gradientCheckpointing: boolean;
  /** Target that is neither learnt nor counted, such as the tokens of a prompt. Default -100. */
  ignoreIndex: number;
}

/** Target that does not count, as in PyTorch. */
export const IGNORE_INDEX = -100;

/** The smallest normal float32: below it a weight that never had a gradient would move by 0/0. */
export const SMALLEST_EPS = 2 ** -126;

export const DEFAULT_TRAIN_CONFIG: Readonly<Omit<TrainConfig, 'auxLossAlpha'>> = {
  lr: 1e-4,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
  weightDecay: 0.1,
  weightDecayExclude: Object.freeze([]),
  gradClip: 1,
  warmupSteps: 1000,
  totalSteps: 100_000,
  schedule: 'cosine',
  minLrRatio: 0.1,
  zLossCoef: 0,
  routerBiasUpdateRate: 0,
  gradAccumulationSteps: 1,
  gradientCheckpointing: false,
  ignoreIndex: IGNORE_INDEX,
};

/**
 * The options with the defaults filled in, frozen.
 * @throws TypeError for an unknown option or a value of another type, RangeError for one out of range.
 */
export function completeTrainConfig(
  options: Partial<TrainConfig>,
  auxLossAlpha: number,
): Readonly<TrainConfig> {
  const defaults: TrainConfig = { ...DEFAULT_TRAIN_CONFIG, auxLossAlpha };
  const config: Record<string, unknown> = { ...defaults };
  for (const [key, value] of Object.entries(options)) {
    if (!Object.hasOwn(defaults, key)) {
      throw new TypeError(`TrainConfig: unknown option '${key}'; known: ${Object.keys(defaults).join(', ')}`);
    }
    if (value === undefined) continue;
    const type = typeOf(defaults[key as keyof TrainConfig]);
    if (typeOf(value) !== type) {
      throw new TypeError(`TrainConfig: ${key} must be a ${type}, got ${typeOf(value)}`);
    }
    config[key] = Array.isArray(value) ? Object.freeze([...value]) : value;
  }
  const complete = config as unknown as TrainConfig;
  for (const [key, ok, want] of rulesOf(complete)) {
    if (!ok) throw new RangeError(`TrainConfig: ${key} must be ${want}, got ${complete[key]}`);
  }
  return Object.freeze(complete);
}

function typeOf(value: unknown): string {
  return Array.isArray(value) ? 'list' : typeof value;
}

/** What must hold of each option, and in which words. */
function rulesOf(config: TrainConfig): [keyof TrainConfig, boolean, string][] {
  const { lr, beta1, beta2, eps, weightDecay, weightDecayExclude, schedule, minLrRatio } = config;
  const { gradClip, warmupSteps, totalSteps, auxLossAlpha, zLossCoef, ignoreIndex } = config;
  const { gradAccumulationSteps: parts, routerBiasUpdateRate: biasRate } = config;
  const excludable = weightDecayExclude.every((part) => DECAY_EXCLUSIONS.includes(part));
  return [
    ['lr', lr >= 0 && Number.isFinite(lr), 'a finite number >= 0'],
    ['beta1', beta1 >= 0 && beta1 < 1, 'in [0, 1)'],
    ['beta2', beta2 >= 0 && beta2 < 1, 'in [0, 1)'],
    ['eps', eps >= SMALLEST_EPS && Number.isFinite(eps), `a finite number >= ${SMALLEST_EPS}`],
    ['weightDecay', weightDecay >= 0 && Number.isFinite(weightDecay), 'a finite number >= 0'],
    ['weightDecayExclude', excludable, `some of ${DECAY_EXCLUSIONS.join(', ')}`],
    ['gradClip', gradClip > 0, '> 0 (Infinity: off)'],
    ['warmupSteps', Number.isInteger(warmupSteps) && warmupSteps >= 0, 'an integer >= 0'],
    ['totalSteps', Number.isInteger(totalSteps) && totalSteps >= 1, 'an integer >= 1'],
    ['schedule', SCHEDULES.includes(schedule), `one of ${SCHEDULES.join(', ')}`],
    ['minLrRatio', minLrRatio >= 0 && minLrRatio <= 1, 'in [0, 1]'],
    ['auxLossAlpha', auxLossAlpha >= 0 && Number.isFinite(auxLossAlpha), 'a finite number >= 0'],
    ['zLossCoef', zLossCoef >= 0 && Number.isFinite(zLossCoef), 'a finite number >= 0'],
    ['routerBiasUpdateRate', biasRate >= 0 && Number.isFinite(biasRate), 'a finite number >= 0'],
    ['gradAccumulationSteps', Number.isInteger(parts) && parts >= 1, 'an integer >= 1'],
    ['ignoreIndex', Number.isInteger(ignoreIndex) && ignoreIndex < 0, 'a negative integer'],
  ];
}
