/** sgemoe/ai: the models of engines in this process for the AI SDK (npm's `ai`, 6 and 7), without HTTP. */
export type { SgemoeEmbeddingOptions } from './serve/ai/embeddingModel';
export { createSgemoe, type SgemoeProvider } from './serve/ai/provider';
export type { SgemoeLanguageModelOptions } from './serve/ai/requestOf';
