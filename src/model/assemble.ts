import type { ModelConfig } from '../config/modelConfig';
import type { ParameterStore } from '../memory/parameters';
import { RopeTable } from './attention';
import { Embedding, Linear, RMSNorm } from './layers';
import { type RouterLosses, TransformerBlock } from './moe';
import type { ModelParts } from './pass';

/** The layers of a model, their weights reserved in `store` in the order of checkpoints, nothing allocated. */
export function assemble(
  config: ModelConfig,
  store: ParameterStore,
  losses?: RouterLosses,
): ModelParts & { readonly embedding: Embedding } {
  const {
    hiddenDim: H,
    vocabSize: V,
    headDim,
    effectiveRopeBase,
    rmsNormEps: eps,
    tieEmbeddings: tied,
  } = config;
  const rope = new RopeTable(headDim, effectiveRopeBase, store.kernels.floatType);
  const multiplier = config.embeddingMultiplier;
  const embedding = new Embedding(V, H, { store, prefix: 'model.embed_tokens.', multiplier, tied });
  const blocks = Array.from({ length: config.nLayers }, (_, i) => {
    return new TransformerBlock(config, { store, prefix: `model.layers.${i}.`, rope, losses });
  });
  const norm = new RMSNorm(H, { store, prefix: 'model.norm.', eps });
  const tiedTo = tied ? embedding : undefined;
  const lmHead = new Linear(H, V, { store, prefix: 'lm_head.', scale: 1 / config.logitsDivisor, tiedTo });
  return { config, embedding, blocks, norm, lmHead };
}
