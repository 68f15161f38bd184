import type { ModelConfig } from '../config/modelConfig';
import type { TransformerBlock } from './block';
import type { Embedding } from './embedding';
import type { Linear, RMSNorm } from './layers';
import type { Projection } from './projection';

/** The parts of a model, for which passes are planned. */
export interface ModelParts {
  readonly config: ModelConfig;
  readonly embedding: Embedding;
  readonly blocks: readonly TransformerBlock[];
  readonly norm: RMSNorm;
  readonly lmHead: Linear;
}

/** The products by weight matrices of a model, which adapters can join: those of the blocks in order, then lm_head. */
export function projectionsOf({ blocks, lmHead }: Pick<ModelParts, 'blocks' | 'lmHead'>): Projection[] {
  return [...blocks.flatMap((block) => block.projections), ...lmHead.projections];
}
