import { ReadableStream } from 'node:stream/web';
import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3FinishReason,
  LanguageModelV3GenerateResult,
  LanguageModelV3StreamPart,
  LanguageModelV3StreamResult,
  LanguageModelV3Usage,
  SharedV3ProviderMetadata,
  SharedV3Warning,
} from '@ai-sdk/provider';
import type { Engine } from '../engine/engine';
import type { FinishReason, StreamChunk, TokenLogprob, TokenRouting, Usage } from '../engine/types';
import { requestOf } from './requestOf';
import { callPart, StreamParts } from './streamParts';

/** A language model of the AI SDK that an engine of this process computes. */
export class SgemoeLanguageModel implements LanguageModelV3 {
  readonly specificationVersion = 'v3';
  readonly provider = 'sgemoe';
  /** None: it reads text only. */
  readonly supportedUrls = {};

  constructor(
    readonly modelId: string,
    private readonly engine: Engine,
  ) {}

  /** @throws the errors of Engine.generate. */
  async doGenerate(options: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
    const { request, warnings } = requestOf(options);
    const { text, toolCalls, finishReason, usage, logprobs, routing } = await this.engine.generate(request);
    return {
      content: [...(text === '' ? [] : [{ type: 'text' as const, text }]), ...toolCalls.map(callPart)],
      finishReason: reasonOf(finishReason),
      usage: usageOf(usage),
      providerMetadata: metadataOf(logprobs, routing),
      warnings,
    };
  }

  /**
   * An error after the beginning is a part of the stream, as the AI SDK expects; an abort ends the stream with its reason.
   * @throws the errors of Engine.stream that it throws at once.
   */
  async doStream(options: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    const { request, warnings } = requestOf(options);
    const chunks = this.engine.stream(request);
    const parts = partsOf(chunks, warnings, options);
    const stream = new ReadableStream<LanguageModelV3StreamPart>({
      async pull(controller) {
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      // Not `parts.return()`, which waits for the next chunk.
      async cancel() {
        await chunks.return?.();
      },
    });
    return { stream: stream as LanguageModelV3StreamResult['stream'] };
  }
}

async function* partsOf(
  chunks: AsyncIterable<StreamChunk>,
  warnings: SharedV3Warning[],
  { abortSignal, includeRawChunks = false }: LanguageModelV3CallOptions,
): AsyncGenerator<LanguageModelV3StreamPart, void> {
  yield { type: 'stream-start', warnings };
  const logprobs: TokenLogprob[] = [];
  const routing: TokenRouting[] = [];
  const parts = new StreamParts();
  let finishReason: LanguageModelV3FinishReason = { unified: 'error', raw: undefined };
  let usage = usageOf(null);
  try {
    for await (const chunk of chunks) {
      if (includeRawChunks) yield { type: 'raw', rawValue: chunk };
      logprobs.push(...(chunk.logprobs ?? []));
      routing.push(...(chunk.routing ?? []));
      usage = usageOf(chunk.usageSoFar);
      yield* parts.text(chunk.text);
      yield* parts.calls(chunk.toolCalls);
      if (chunk.finishReason !== null) finishReason = reasonOf(chunk.finishReason);
    }
    yield* parts.end();
  } catch (error) {
    if (abortSignal?.aborted) throw error;
    // What is open stays so: half a call must not be run.
    yield { type: 'error', error };
  }
  yield { type: 'finish', usage, finishReason, providerMetadata: metadataOf(logprobs, routing) };
}

const REASONS = {
  stop: 'stop',
  tool_calls: 'tool-calls',
  length: 'length',
  abort: 'other',
  timeout: 'other',
} as const;

function reasonOf(raw: FinishReason): LanguageModelV3FinishReason {
  return { unified: REASONS[raw], raw };
}

/** @param usage null when nothing is known. */
function usageOf(usage: Usage | null): LanguageModelV3Usage {
  const { promptTokens, reusedTokens, completionTokens } = usage ?? {};
  return {
    inputTokens: {
      total: promptTokens,
      noCache: usage === null ? undefined : usage.promptTokens - usage.reusedTokens,
      cacheRead: reusedTokens,
      cacheWrite: undefined,
    },
    outputTokens: { total: completionTokens, text: completionTokens, reasoning: undefined },
  };
}

/** What `topLogprobs` and `routing` ask for; undefined if they don't. */
function metadataOf(
  logprobs: TokenLogprob[] | null,
  routing: TokenRouting[] | null,
): SharedV3ProviderMetadata | undefined {
  const given = Object.entries({ logprobs, routing }).filter(([, list]) => (list ?? []).length > 0);
  if (given.length === 0) return undefined;
  return { sgemoe: Object.fromEntries(given) } as unknown as SharedV3ProviderMetadata;
}
