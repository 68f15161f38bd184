import { type ModelConfigOptions, MoETransformer } from '../../src';

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

/** Everything on that is off by default. */
export const EVERYTHING = {
  qkNorm: 'head',
  attentionBias: 'qkvo',
  normTopkProb: false,
  sharedFfnDim: 20,
  tieEmbeddings: true,
  embeddingMultiplier: 1.5,
  attentionMultiplier: 0.4,
  residualMultiplier: 0.7,
  logitsDivisor: 1.25,
} as const;

/** SMALL with a dense first layer; the second is a mixture. */
export const SOME_DENSE = { denseLayers: [0], denseFfnDim: 28 } as const;

/** SMALL with only dense layers. */
export const ALL_DENSE = {
  nExperts: 0,
  topKExperts: 0,
  ffnDim: 0,
  denseLayers: [0, 1],
  denseFfnDim: 28,
} as const;

export function smallModel(overrides: Partial<ModelConfigOptions> = {}, seed = 1): MoETransformer {
  return MoETransformer.create({ ...SMALL, ...overrides }, { seed });
}
