import { integer, integers, number, type OptionTable } from '../base/options';
import { DEFAULT_SEED } from '../base/random';

export interface UpcycleOptions {
  /** Experts of each mixture. Default 8. */
  nExperts?: number | undefined;
  /** Experts that each token passes; at most all. Default 2. */
  topKExperts?: number | undefined;
  /**
   * Standard deviation of the normal noise that is added to every expert's weights, as a share of the root mean square of the
   * dense matrix. Default 0: none.
   */
  noise?: number | undefined;
  /**
   * Share of each expert's hidden units that start anew: other units in each expert. A fresh unit's weights are normal, with
   * the root mean square of the dense matrix (Drop-Upcycling, Nakamura et al. 2025). Default 0: none.
   */
  reinit?: number | undefined;
  /** Standard deviation of the fresh routers' weights. Default 0.02, that of Komatsuzaki et al. 2023. */
  routerStd?: number | undefined;
  /**
   * Width of a shared expert that every token passes, as Qwen2-MoE has it; 0 means none. Its down projection starts at 0, so
   * it adds nothing at first. Default 0.
   */
  sharedFfnDim?: number | undefined;
  /** Layers, counted from 0, that stay dense, in ascending order. Default []: every layer becomes a mixture. */
  denseLayers?: readonly number[] | undefined;
  /** Seed of all that is random. Default 42. */
  seed?: number | undefined;
}

const SIZE = { min: 1, below: 2 ** 31 };

/** Options of `upcycle`, flags of `sgemoe upcycle`. */
export const UPCYCLE_OPTIONS: OptionTable<UpcycleOptions> = {
  nExperts: integer(SIZE, { doc: 'experts of each mixture', default: 8, cli: { flag: '--experts <n>' } }),
  topKExperts: integer(SIZE, {
    doc: 'experts that each token passes; at most all',
    default: 2,
    cli: { flag: '--top-k <n>' },
  }),
  noise: number(
    { min: 0 },
    {
      doc: "std of normal noise on every expert's weights, as a share of the dense matrix's root mean square",
      note: '0 is none',
      default: 0,
      cli: { flag: '--noise <x>' },
    },
  ),
  reinit: number(
    { min: 0, max: 1 },
    {
      doc: "share of each expert's hidden units that start anew, others in each expert",
      note: '0 is none',
      default: 0,
      cli: { flag: '--reinit <share>' },
    },
  ),
  routerStd: number(
    { min: 0 },
    { doc: "std of the fresh routers' weights", default: 0.02, cli: { flag: '--router-std <x>' } },
  ),
  sharedFfnDim: integer(
    { min: 0, below: 2 ** 31 },
    {
      doc: 'width of a shared expert that every token passes, as Qwen2-MoE has it; it adds nothing at first',
      note: '0 is none',
      default: 0,
      cli: { flag: '--shared-ffn-dim <n>' },
    },
  ),
  denseLayers: integers(
    { min: 0 },
    {
      doc: 'layers, counted from 0, that stay dense',
      default: [],
      cli: {
        flag: '--dense-layers <list>',
        note: "such as '0,2'",
        absent: 'none',
        toOption: (list: string) => list.split(',').map(Number),
      },
    },
  ),
  seed: integer(
    { min: 0 },
    { doc: 'seed of all that is random', default: DEFAULT_SEED, cli: { flag: '--seed <n>' } },
  ),
};
