import type { EmbeddingModelV3, EmbeddingModelV3CallOptions, EmbeddingModelV3Result } from '@ai-sdk/provider';
import type { EmbedOptions } from '../engine/embedOptions';
import type { Engine } from '../engine/engine';

/** `providerOptions.sgemoe` of a call: `pooling`, `normalize`, `dimensions`, `addSpecialTokens`, `timeoutMs`. */
export type SgemoeEmbeddingOptions = Omit<EmbedOptions, 'signal'>;

/** An embedding model of the AI SDK that an engine of this process computes. */
export class SgemoeEmbeddingModel implements EmbeddingModelV3 {
  readonly specificationVersion = 'v3';
  readonly provider = 'sgemoe';
  readonly maxEmbeddingsPerCall = Number.POSITIVE_INFINITY;
  readonly supportsParallelCalls = true;

  constructor(
    readonly modelId: string,
    private readonly engine: Engine,
  ) {}

  /** @throws the errors of Engine.embed. */
  async doEmbed({
    values,
    abortSignal,
    providerOptions,
  }: EmbeddingModelV3CallOptions): Promise<EmbeddingModelV3Result> {
    const own = providerOptions?.sgemoe as SgemoeEmbeddingOptions | undefined;
    const { embeddings, promptTokens } = await this.engine.embed(values, { ...own, signal: abortSignal });
    return {
      embeddings: embeddings.map((embedding) => Array.from(embedding)),
      usage: { tokens: promptTokens },
      warnings: [],
    };
  }
}
