export { type AttentionDims, MQAttention, RopeTable } from './attention';
export { type BackendRequest, backendInfo, createKernels, setThreads } from './backend';
export type { BackendInfo, BackendName, BlasInfo, Kernels } from './backend/kernels';
export type { Batch } from './batch';
export {
  type Checkpoint,
  type CheckpointContent,
  loadCheckpoint,
  loadTensorsInto,
  type NamedTensor,
  saveCheckpoint,
} from './checkpoint/checkpoint';
export { SafetensorsFile, writeSafetensors } from './checkpoint/safetensors';
export { ModelConfig, type ModelConfigOptions } from './config';
export type { DType, FloatDType } from './dtype';
export { ERROR_CODES, type ErrorCode, SgemoeError } from './errors';
export {
  type GenerateOptions,
  GreedySampling,
  generate,
  generateTokens,
  type NextTokenModel,
  RandomSampling,
  type RandomSamplingOptions,
  type SamplingStrategy,
  TemperatureSampling,
  TopKSampling,
  TopPSampling,
} from './generate';
export { Embedding, type LayerOptions, Linear, RMSNorm, SwiGLU } from './layers';
export { type ForwardOptions, type ModelOptions, MoETransformer, type Trace } from './model';
export {
  type BlockDims,
  type MoEDims,
  MoELayer,
  Router,
  type RouterLosses,
  type Routing,
  TransformerBlock,
} from './moe';
export type { Parameter, ParameterStore } from './parameters';
export { Lcg64 } from './random';
export { Tensor } from './tensor';
export { bigramConditionalEntropy } from './text/bigram';
export {
  TextDataset,
  type TextDatasetOptions,
  type TextFilesOptions,
  type TrainBatchOptions,
  type ValidationBatchOptions,
  WindowSampler,
} from './text/dataset';
export { ByteTokenizer, loadTokenizer, type StreamDecoder, type Tokenizer } from './text/tokenizer';
export {
  clipGradByGlobalNorm,
  type EvalResult,
  evaluate,
  type LossResult,
  type RunOptions,
  type StepResult,
  type TrainConfig,
  Trainer,
} from './train';
