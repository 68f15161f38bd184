export { backendInfo, createKernels, setThreads } from './backend';
export {
  addTree,
  type Collectives,
  type MovableArray,
  type SharedRank,
  type Transfer,
} from './backend/collectives';

export {
  Distributed,
  type DistributedOptions,
  type MpiLibrary,
} from './backend/collectives/distributed';
export { soloCollectives } from './backend/collectives/solo';
export { takeOver } from './backend/collectives/takeOver';
export {
  createThreadGroup,
  type JoinOptions,
  joinThreadGroup,
  type ThreadGroupOptions,
} from './backend/collectives/threads';
export type { BackendInfo, BackendName, BackendRequest, BlasInfo, Kernels } from './backend/kernels';
export type { Batch, Preferences } from './base/batch';
export type { DType, FloatDType } from './base/dtype';
export { ERROR_CODES, type ErrorCode, SgemoeError } from './base/errors';
export type { Precision } from './base/precision';
export { Lcg64 } from './base/random';
export type { MemoryNeeds } from './base/requireMemory';
export type { KvCacheDtype } from './base/storageTypes';
export {
  type Checkpoint,
  type CheckpointContent,
  loadCheckpoint,
  loadTensorsInto,
  type NamedTensor,
  type SaveOptions,
  saveCheckpoint,
} from './checkpoint/checkpoint';
export type { GenerationConfig } from './checkpoint/generationConfig';
export { SafetensorsFile, writeSafetensors } from './checkpoint/safetensors';
export { SafetensorsShards } from './checkpoint/shards';
export type { TensorReader } from './checkpoint/tensorReader';
export type { StoredTokenizer, TokenizerFiles } from './checkpoint/tokenizerFiles';
export type { LoraOptions, ResolvedLoraOptions } from './config/loraOptions';
export {
  type AttentionBiasKind,
  ModelConfig,
  type ModelConfigOptions,
  type QueryKeyNormKind,
} from './config/modelConfig';
export type {
  LinearRopeScaling,
  Llama3RopeScaling,
  RopeScaling,
  YarnRopeScaling,
} from './config/ropeScaling';
export type { DecayExclusion, Schedule } from './config/trainConfig';
export type { Architecture } from './hf/architectures';
export type { GgufDtype, GgufExportOptions } from './hf/exportGguf';
export { type ExportDtype, type ExportOptions, exportHuggingFace } from './hf/exportModel';
export type { ExportableModel } from './hf/exportValues';
export type { HubOptions, PullProgress } from './hf/hub/hubOptions';
export { type PullOptions, pull } from './hf/hub/pull';
export type { Parameter, ParameterStore, WeightRange } from './memory/parameters';
export type { SharedModel } from './memory/sharedModel';
export { type AttentionDims, MQAttention, RopeTable } from './model/attention';
export { type BlockDims, TransformerBlock } from './model/block';
export {
  type ExportCheckpointOptions,
  type ExportGgufCheckpointOptions,
  exportCheckpoint,
  exportGguf,
  exportGgufAdapter,
  exportGgufAdapterCheckpoint,
  exportGgufCheckpoint,
  importCheckpoint,
  mergeCheckpoint,
} from './model/convert';
export {
  type DecodableModel,
  type DecodeRow,
  Decoder,
  type DecoderOptions,
  type StepOutputs,
} from './model/decoder';
export { Embedding, type EmbeddingOptions } from './model/embedding';
export type { ExpertExchange } from './model/expertExchange';
export type { ExpertRanks } from './model/expertLayout';
export { ExpertShard, type ExpertShardOptions } from './model/expertShard';
export {
  type InspectedAdapters,
  type Inspection,
  type InspectOptions,
  inspectCheckpoint,
} from './model/inspect';
export type { LayerOptions } from './model/layer';
export { Linear, type LinearOptions, RMSNorm, SwiGLU } from './model/layers';
export { Lora } from './model/lora';
export { loadLora, readLora, type SaveLoraOptions, saveLora } from './model/loraFiles';
export { type MemoryBytes, type MemoryOptions, memoryBytes } from './model/memoryBytes';
export {
  type ForwardOptions,
  type LoadOptions,
  type ModelOptions,
  MoETransformer,
  type NeedsOf,
  type Trace,
} from './model/model';
export {
  type MoEDims,
  MoELayer,
  Router,
  type RouterLosses,
  type Routing,
} from './model/moe';
export type { OnGradients } from './model/passes';
export { type Quantized, type QuantizeOptions, quantizeCheckpoint } from './model/quantize';
export { SharedExpert } from './model/sharedExpert';
export { MODEL_DTYPES, type ModelDtype } from './model/storedWeights';
export {
  type UpcycleCheckpointOptions,
  type Upcycled,
  type UpcycleOptions,
  upcycle,
  upcycleCheckpoint,
} from './model/upcycle';
export { checkpointSampling } from './sampling/checkpointSampling';
export { TokenVocabulary } from './sampling/constraints/constraint';
export type { ConstraintOptions, JsonSchema } from './sampling/constraints/options';
export {
  type GenerateOptions,
  GreedySampling,
  generate,
  generateTokens,
  RandomSampling,
  type RandomSamplingOptions,
  TemperatureSampling,
  TopKSampling,
  TopPSampling,
} from './sampling/generate';
export type { NextTokenModel, SamplingStrategy, TokenSequence } from './sampling/nextToken';
export type { ResolvedSampling, SamplingOptions } from './sampling/options';
export { type SampledToken, Sampler, type SamplerSetup } from './sampling/sampler';
export type { EmbeddingForm, EmbedOptions } from './serve/engine/embedOptions';
export { Engine } from './serve/engine/engine';
export type { EmbeddingResult } from './serve/engine/messages';
export type { EngineOptions } from './serve/engine/options';
export type {
  Completion,
  EngineMetrics,
  FinishReason,
  GenerateRequest,
  Histogram,
  OpenEngineOptions,
  RequestControl,
  StreamChunk,
  TokenLogprob,
  TokenProbability,
  TokenRouting,
  ToolCall,
  Usage,
} from './serve/engine/types';
export type { RequestHandler } from './serve/http/handler';
export type { HttpOptions, ServedModel } from './serve/http/options';
export { httpPlugin } from './serve/http/plugin';
export {
  createHandler,
  type ListenOptions,
  type RunningServer,
  type ServeOptions,
  serve,
} from './serve/http/server';
export { Tensor } from './tensor/tensor';
export { bigramConditionalEntropy } from './text/bigram';
export { type BpeOptions, type BpeProgress, trainBpe } from './text/bpe/trainBpe';
export { ByteTokenizer } from './text/byteTokenizer';
export { ChatDataset } from './text/chats/chatDataset';
export type { ChatDatasetOptions, PreferenceDatasetOptions, TooLong } from './text/chats/options';
export type { PreferencePair } from './text/chats/pairs';
export { PreferenceDataset, type ReferenceScores } from './text/chats/preferenceDataset';
export type { LossOn, Sample } from './text/chats/samples';
export type { ChatMessage, ChatOptions } from './text/chatTemplate';
export type {
  BatchOptions,
  DataPosition,
  OrderedBatchOptions,
  Split,
  TokenDataset,
  TrainBatchOptions,
  TrainingBatches,
} from './text/data';
export {
  TextDataset,
  type TextDatasetOptions,
  type TextFilesOptions,
  WindowSampler,
} from './text/dataset';
export { HuggingFaceTokenizer } from './text/huggingFaceTokenizer';
export { loadTokenizer } from './text/loadTokenizer';
export type { DatasetHeader, SplitHeader } from './text/prepared/header';
export { type PrepareOptions, type PrepareProgress, prepareDataset } from './text/prepared/prepareDataset';
export { PreparedDataset, type PreparedDatasetOptions } from './text/prepared/preparedDataset';
export { readTokenizer, tokenizerHash, writeTokenizer } from './text/readTokenizer';
export { TextStream, type TextStreamOptions } from './text/textStream';
export type { DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer } from './text/tokenizer';
export type { ToolCallFormatName } from './text/toolCalls/formats';
export {
  type ParsedAnswer,
  type ToolCallDelta,
  ToolCallParser,
  type ToolCallParserOptions,
} from './text/toolCalls/parser';
export type { Tool, ToolChoice } from './text/toolCalls/tools';
export { type CharacterOptions, trainCharacters } from './text/trainCharacters';
export { EarlyStopping, type EarlyStoppingOptions, type EarlyStoppingState } from './training/earlyStopping';
export { type EvalOptions, type EvalResult, evaluate } from './training/evaluate';
export {
  type EvaluateTextOptions,
  evaluateBatches,
  evaluateText,
  type ScoringOptions,
  type TextEvalResult,
} from './training/evaluateText';
export type { PreferenceMetrics, PreferenceResult } from './training/preferenceLoss';
export { evaluatePreferences, type ScoreOptions, scoreReference } from './training/preferences';
export type { Evaluation } from './training/run/best';
export type { LossReference } from './training/run/chart';
export type {
  EndEvent,
  EvaluationEvent,
  FinalEvaluationEvent,
  NoteEvent,
  RunEvent,
  SampleEvent,
  SavedEvent,
  SavedPart,
  SaveFailedEvent,
  StartEvent,
  StarvingExpertEvent,
  StepEvent,
} from './training/run/events';
export type { TrainingResult } from './training/run/result';
export type { ResumeRunOptions, StartRunOptions, TrainingRunOptions } from './training/run/runOptions';
export type { SampleOptions } from './training/run/samples';
export type { SaveInterval } from './training/run/saveSchedule';
export { TrainingRun } from './training/run/trainingRun';
export type { ValidationResult } from './training/run/validation';
export {
  type ResumedTraining,
  type ResumeOptions,
  resumeTraining,
  type SaveTrainingOptions,
  saveTraining,
} from './training/saving';
export {
  clipGradByGlobalNorm,
  type LossResult,
  type ResolvedTrainConfig,
  type RunOptions,
  type StepOptions,
  type StepResult,
  type TrainConfig,
  Trainer,
  type TrainerOptions,
  type TrainerState,
} from './training/trainer';
