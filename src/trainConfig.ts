export interface TrainConfig {
  /** Peak learning rate. Default 1e-4. */
  lr: number;
  /** Decay of the first moment. Default 0.9. */
  beta1: number;
  /** Decay of the second moment. Default 0.95. */
  beta2: number;
  /** Added to the root of the second moment. Default 1e-8. */
  eps: number;
  /** Decoupled weight decay, applied to every parameter. Default 0.1. */
  weightDecay: number;
  /** Largest global gradient norm; Infinity switches clipping off. Default 1. */
  gradClip: number;
  /** Steps of linear warmup. Default 1000. */
  warmupSteps: number;
  /** Step at which the cosine has come down to 10 % of lr. Default 100000. */
  totalSteps: number;
  /** Weight of the load-balancing loss. Default: the model config's routerAuxLossCoef. */
  auxLossAlpha: number;
  /** Weight of the router z-loss, the mean squared log-sum-exp of the router logits. Default 0: off. */
  zLossCoef: number;
  /**
   * Micro-batches a step: a batch of B sequences goes through the model in so many parts, one after the other, and
   * needs the memory of one. The cross-entropy gradient equals the big batch's; the balance and z-loss are taken in
   * each part and weighted by its tokens, which is not the big batch's (f and P are means of the part). Default 1.
   */
  gradAccumulationSteps: number;
  /** Target that is neither learnt nor counted, such as the tokens of a prompt. Default -100. */
  ignoreIndex: number;
}

/** Target that does not count, as in PyTorch. */
export const IGNORE_INDEX = -100;

/** The smallest normal float32: below it a weight that never had a gradient would move by 0/0. */
const SMALLEST_EPS = 2 ** -126;

const DEFAULTS: Omit<TrainConfig, 'auxLossAlpha'> = {
  lr: 1e-4,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
  weightDecay: 0.1,
  gradClip: 1,
  warmupSteps: 1000,
  totalSteps: 100_000,
  zLossCoef: 0,
  gradAccumulationSteps: 1,
  ignoreIndex: IGNORE_INDEX,
};

/**
 * The options with the defaults filled in, frozen.
 * @throws TypeError for an unknown or non-numeric option, RangeError for one out of range.
 */
export function completeTrainConfig(
  options: Partial<TrainConfig>,
  auxLossAlpha: number,
): Readonly<TrainConfig> {
  const defaults: TrainConfig = { ...DEFAULTS, auxLossAlpha };
  const config = { ...defaults };
  for (const [key, value] of Object.entries(options) as [keyof TrainConfig, unknown][]) {
    if (!Object.hasOwn(defaults, key)) {
      throw new TypeError(`TrainConfig: unknown option '${key}'; known: ${Object.keys(defaults).join(', ')}`);
    }
    if (value === undefined) continue;
    if (typeof value !== 'number') {
      throw new TypeError(`TrainConfig: ${key} must be a number, got ${typeof value}`);
    }
    config[key] = value;
  }
  for (const [key, ok, want] of rulesOf(config)) {
    if (!ok) throw new RangeError(`TrainConfig: ${key} must be ${want}, got ${config[key]}`);
  }
  return Object.freeze(config);
}

/** What must hold of each option, and in which words. */
function rulesOf(config: TrainConfig): [keyof TrainConfig, boolean, string][] {
  return [
    ['lr', config.lr >= 0 && Number.isFinite(config.lr), 'a finite number >= 0'],
    ['beta1', config.beta1 >= 0 && config.beta1 < 1, 'in [0, 1)'],
    ['beta2', config.beta2 >= 0 && config.beta2 < 1, 'in [0, 1)'],
    ['eps', config.eps >= SMALLEST_EPS && Number.isFinite(config.eps), `a finite number >= ${SMALLEST_EPS}`],
    ['weightDecay', config.weightDecay >= 0 && Number.isFinite(config.weightDecay), 'a finite number >= 0'],
    ['gradClip', config.gradClip > 0, '> 0 (Infinity: off)'],
    ['warmupSteps', Number.isInteger(config.warmupSteps) && config.warmupSteps >= 0, 'an integer >= 0'],
    ['totalSteps', Number.isInteger(config.totalSteps) && config.totalSteps >= 1, 'an integer >= 1'],
    [
      'auxLossAlpha',
      config.auxLossAlpha >= 0 && Number.isFinite(config.auxLossAlpha),
      'a finite number >= 0',
    ],
    ['zLossCoef', config.zLossCoef >= 0 && Number.isFinite(config.zLossCoef), 'a finite number >= 0'],
    [
      'gradAccumulationSteps',
      Number.isInteger(config.gradAccumulationSteps) && config.gradAccumulationSteps >= 1,
      'an integer >= 1',
    ],
    ['ignoreIndex', Number.isInteger(config.ignoreIndex) && config.ignoreIndex < 0, 'a negative integer'],
  ];
}
