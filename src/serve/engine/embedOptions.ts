import { boolean, choice, integer, type OptionTable, ownOptions, resolveOptions } from '../../base/options';
import type { EncodeOptions } from '../../text/tokenizer';
import type { RequestControl } from './types';

/** How the final norm's output [T,H] of a text becomes its embedding. */
export interface EmbeddingForm {
  /** 'mean' over the tokens, or that of the 'last' token. Default 'mean'. */
  pooling?: 'mean' | 'last' | undefined;
  /** Keeps the first numbers of each embedding, an integer in [1, H]. Default: all. */
  dimensions?: number | undefined;
  /** Scales each embedding, after it is shortened, to length 1. Default false. */
  normalize?: boolean | undefined;
}

export interface EmbedOptions extends EmbeddingForm, RequestControl, EncodeOptions {
  /** Name of the engine's adapter that computes. Default: the model as it is. */
  adapter?: string | undefined;
}

export type ResolvedEmbeddingForm = Required<EmbeddingForm>;

export const EMBEDDING_OPTIONS: OptionTable<EmbeddingForm> = {
  pooling: choice(['mean', 'last'], {
    doc: "an embedding is the mean of the final norm's output over the tokens, or that of the last token",
    default: 'mean',
  }),
  dimensions: integer({ min: 1 }, { doc: 'keep the first numbers of each embedding', absent: 'all' }),
  normalize: boolean({
    doc: 'scale each embedding, after it is shortened, to length 1',
    default: false,
  }),
};

/** @throws TypeError or RangeError for an option out of range. */
export function resolveEmbeddingForm(options: EmbedOptions, hiddenDim: number): ResolvedEmbeddingForm {
  const own = ownOptions<EmbeddingForm>(EMBEDDING_OPTIONS, options);
  const form = resolveOptions<EmbeddingForm>('embed', EMBEDDING_OPTIONS, own) as ResolvedEmbeddingForm;
  const { dimensions = hiddenDim } = form;
  if (dimensions <= hiddenDim) return { ...form, dimensions };
  throw new RangeError(`embed: dimensions must be at most ${hiddenDim}, got ${dimensions}`);
}
