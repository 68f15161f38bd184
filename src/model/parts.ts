import type { ModelConfig } from '../config/modelConfig';
import type { TransformerBlock } from './block';
import type { Linear, RMSNorm } from './layers';

/** The parts of a model, for which passes are planned. */
export interface ModelParts {
  readonly config: ModelConfig;
  readonly blocks: readonly TransformerBlock[];
  readonly norm: RMSNorm;
  readonly lmHead: Linear;
}
