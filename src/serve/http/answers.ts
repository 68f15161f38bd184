/** Completions in the shapes of OpenAI's API. */
import { randomUUID } from 'node:crypto';
import type { StreamChunk, TokenLogprob, TokenProbability, Usage } from '../engine/types';

/** The fields that all chunks of an answer share. */
export interface AnswerHead {
  id: string;
  created: number;
  model: string;
  /** Engine.fingerprint. */
  system_fingerprint: string;
}

/** A kind of answer: how it writes a choice, whole or in chunks. */
export interface AnswerFormat {
  readonly idPrefix: string;
  readonly object: string;
  readonly chunkObject: string;
  /** Makes a writer for the chunks of one choice, to be called in their order. */
  chunkWriter(index: number): (chunk: StreamChunk) => object;
  /** Writes a complete choice. */
  whole(index: number, completion: StreamChunk): object;
}

/**
 * /v1/completions. @param routing adds `sgemoe` to each choice. @param echo whether the text begins with the prompt. Its
 * log-probabilities then have the end token, too, with no text: programs that score prompts drop the last entry, the one of
 * the new token that they must ask for elsewhere.
 */
export function completionFormat(routing: boolean, echo = false): AnswerFormat {
  const entriesOf = (logprobs: readonly TokenLogprob[], { endToken }: StreamChunk) =>
    echo && endToken !== null ? [...logprobs, { ...endToken, text: '' }] : logprobs;
  const chunkWriter = (index: number) => {
    const offsets = { next: 0 };
    return (chunk: StreamChunk) => ({
      index,
      text: chunk.text,
      finish_reason: chunk.finishReason,
      logprobs: chunk.logprobs && listLogprobs(entriesOf(chunk.logprobs, chunk), offsets),
      ...extension(chunk, routing),
    });
  };
  return {
    idPrefix: 'cmpl',
    object: 'text_completion',
    chunkObject: 'text_completion',
    chunkWriter,
    whole: (index, completion) => chunkWriter(index)(completion),
  };
}

/** /v1/chat/completions. */
export function chatFormat(routing: boolean): AnswerFormat {
  const common = (index: number, chunk: StreamChunk) => ({
    index,
    finish_reason: chunk.finishReason,
    logprobs: chunk.logprobs && {
      content: chunk.logprobs.map(chatLogprob),
      refusal: null,
    },
    ...extension(chunk, routing),
  });
  return {
    idPrefix: 'chatcmpl',
    object: 'chat.completion',
    chunkObject: 'chat.completion.chunk',
    chunkWriter(index) {
      let role: { role?: string | undefined } = { role: 'assistant' };
      return (chunk) => {
        const delta = { ...role, content: contentOf(chunk), ...callsOf(chunk, true) };
        role = {};
        return { ...common(index, chunk), delta };
      };
    },
    whole: (index, completion) => ({
      ...common(index, completion),
      message: {
        role: 'assistant',
        content: contentOf(completion),
        refusal: null,
        ...callsOf(completion, false),
      },
    }),
  };
}

/** The text; null where there are only calls. */
function contentOf({ text, toolCalls }: StreamChunk): string | null {
  return text === '' && toolCalls.length > 0 ? null : text;
}

/** The calls of functions, or the pieces of them, with their places if they are pieces. */
function callsOf({ toolCalls }: StreamChunk, arePieces: boolean): { tool_calls?: object[] } {
  if (toolCalls.length === 0) return {};
  const tool_calls = toolCalls.map(({ index, id, name, arguments: text }) => ({
    ...(arePieces && { index }),
    ...(id !== null && { id, type: 'function' }),
    function: { ...(name !== null && { name }), arguments: text },
  }));
  return { tool_calls };
}

/** The usage of all choices. The prompt counts once for each choice, since each computes it or finds it in the cache. */
export function usageOf(usages: readonly Usage[]): object {
  const sum = (count: (usage: Usage) => number) => usages.reduce((total, usage) => total + count(usage), 0);
  const prompt = sum(({ promptTokens }) => promptTokens);
  const completion = sum(({ completionTokens }) => completionTokens);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum(({ reusedTokens }) => reusedTokens) },
  };
}

export function unixSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

export function newHead(prefix: string, model: string, fingerprint: string): AnswerHead {
  return { id: `${prefix}-${randomUUID()}`, created: unixSeconds(), model, system_fingerprint: fingerprint };
}

/** Parallel lists with an entry per token; `text_offset` counts characters of the joined texts. */
function listLogprobs(logprobs: readonly TokenLogprob[], offsets: { next: number }): object {
  const text_offset = logprobs.map(({ text }) => {
    const at = offsets.next;
    offsets.next += text.length;
    return at;
  });
  return {
    tokens: logprobs.map(({ text }) => text),
    token_logprobs: logprobs.map(({ logprob }) => finite(logprob)),
    top_logprobs: logprobs.map(({ logprob, top }) => (Number.isNaN(logprob) ? null : topByText(top))),
    text_offset,
  };
}

/** Logprobs by text. Of tokens with the same text, such as parts of characters, the most probable one counts. */
function topByText(top: readonly TokenProbability[]): object {
  return Object.fromEntries(top.map(({ text, logprob }) => [text, finite(logprob)] as const).reverse());
}

/** The log-probabilities of a token as chats have them. */
export function chatLogprob(one: TokenLogprob): object {
  const entry = ({ text, bytes, logprob }: TokenProbability) => ({
    token: text,
    logprob: finite(logprob),
    bytes,
  });
  return { ...entry(one), top_logprobs: one.top.map(entry) };
}

/** The `sgemoe` field: the id of each token, and the experts that predicted it. */
function extension({ tokens, texts, logprobs, routing }: StreamChunk, wanted: boolean): object {
  if (!wanted) return {};
  const entry = ({ token, text, logprob }: TokenProbability) => ({
    id: token,
    text,
    logprob: finite(logprob),
  });
  const described = tokens.map((token, i) => ({
    id: token,
    text: texts[i],
    ...(logprobs && { ...entry(logprobs[i]), top: logprobs[i].top.map(entry) }),
    ...routing?.[i],
  }));
  return { sgemoe: { tokens: described } };
}

/** Replaces -Infinity, which JSON lacks, by the number that OpenAI uses. NaN becomes null in JSON. */
function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}
