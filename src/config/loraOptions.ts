import { boolean, integer, number, type OptionTable, resolveOptions, texts } from '../base/options';

/** Options of the adapters of a model; undefined means the default. */
export interface LoraOptions {
  /**
   * The matrices that get an adapter: 'attention', 'experts' (every routed and shared expert, and dense feed-forwards), 'router',
   * 'all' (these three), 'embedding', or parts of names as in TrainConfig's `train`: 'q_proj', 'layers.3.*.experts.down', 'lm_head'.
   * Default ['all'].
   */
  targets?: readonly string[] | undefined;
  /** Rank r of A [r,in] and B [out,r]. Default 16. */
  rank?: number | undefined;
  /** An adapter adds alpha / r times its product. Default: twice the rank. */
  alpha?: number | undefined;
  /** Divides alpha by sqrt(r) instead of r (Kalajdzievski 2023), so that ranks can be large. Default false. */
  rsLora?: boolean | undefined;
  /** Share of an adapter's inputs that a train step sets to 0; not with targets among experts, without effect on the embedding's. Default 0. */
  dropout?: number | undefined;
  /** Seed of the initial A and of the dropout, an integer in [0, 2^53). Default 42. */
  seed?: number | undefined;
}

/** LoraOptions with all defaults filled in. */
export type ResolvedLoraOptions = { readonly [K in keyof LoraOptions]-?: Exclude<LoraOptions[K], undefined> };

export const LORA_OPTIONS: OptionTable<LoraOptions> = {
  targets: texts({
    doc: 'the matrices that get an adapter: attention, experts (shared ones and dense feed-forwards too), router, all (these three), embedding, or parts of names such as q_proj or lm_head',
    default: ['all'],
    absent: 'all',
    cli: { flag: '--lora-targets <parts...>', absent: 'no adapters: the weights themselves are trained' },
  }),
  rank: integer({ min: 1 }, { doc: 'rank r of the adapters', default: 16, cli: { flag: '--lora-rank <n>' } }),
  alpha: number(
    { above: 0 },
    {
      doc: 'an adapter adds alpha / r times its product',
      absent: 'twice the rank',
      cli: { flag: '--lora-alpha <x>' },
    },
  ),
  rsLora: boolean({
    doc: 'divide alpha by the root of the rank instead of the rank',
    default: false,
    cli: { flag: '--rslora', absent: 'by the rank' },
  }),
  dropout: number(
    { min: 0, below: 1 },
    {
      doc: "share of an adapter's inputs that a train step sets to 0",
      note: 'not with experts as targets',
      default: 0,
      cli: { flag: '--lora-dropout <x>' },
    },
  ),
  seed: integer({ min: 0 }, { doc: 'seed of the initial values and of the dropout', default: 42 }),
};

/**
 * The options with the defaults filled in.
 * @throws TypeError for an unknown option or a value of another type, RangeError for one out of range.
 */
export function resolveLoraOptions(options: LoraOptions): ResolvedLoraOptions {
  const resolved = resolveOptions('LoRA', LORA_OPTIONS, options);
  if (resolved.alpha === undefined) resolved.alpha = 2 * resolved.rank!;
  return Object.freeze(resolved as ResolvedLoraOptions);
}
