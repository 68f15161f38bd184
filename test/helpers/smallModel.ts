import { MoETransformer } from '../../src';

/** A model small enough for any backend, with every part that a larger one has. */
export const SMALL = {
  hiddenDim: 16,
  nLayers: 2,
  nHeads: 2,
  nKvHeads: 1,
  headDim: 8,
  nExperts: 3,
  topKExperts: 2,
  ffnDim: 24,
  vocabSize: 20,
  maxSeqLen: 32,
};

export function smallModel(
  overrides: Partial<typeof SMALL> & { ropeAlpha?: number } = {},
  seed = 1,
): MoETransformer {
  return MoETransformer.create({ ...SMALL, ...overrides }, { seed });
}
