import type { LoadOptions } from '../../model/model';
import type { SamplingOptions } from '../../sampling/options';
import type { ChatMessage, ChatOptions } from '../../text/chatTemplate';

export interface EngineOptions {
  /**
   * Threads that decode, each with a cache and a batch of its own, all with the same weights; an integer in [1, 64]. More
   * than one pays when a step is too small to occupy all cores. Default 1.
   */
  workers?: number | undefined;
  /** Size of the process's thread pool, which all workers share, an integer in [1, 256]. Default: as it is. */
  threads?: number | undefined;
  /** Most sequences that a worker decodes together, an integer >= 1. Default 16. */
  maxBatch?: number | undefined;
  /** Most requests that wait for a place in a batch, an integer >= 0; beyond, they are refused. Default 256. */
  maxQueue?: number | undefined;
  /** Most tokens of a sequence, prompt included, an integer in [1, maxSeqLen]. Default: maxSeqLen, at most 4096. */
  contextLength?: number | undefined;
  /**
   * Most tokens of a step, an integer >= maxBatch: prompts are computed in chunks of what the running sequences leave of
   * it. Smaller disturbs running sequences less, larger reads prompts faster. Default 128, or maxBatch if more.
   */
  maxStepTokens?: number | undefined;
  /** Freeze the model (`model.freeze()`), so that nobody writes to what is being served. Default true. */
  freeze?: boolean | undefined;
}

export interface OpenEngineOptions extends EngineOptions, Pick<LoadOptions, 'onNote'> {}

/** What each request may say about its end. */
export interface RequestControl {
  /** Ends the request, waiting or running, before the next token. */
  signal?: AbortSignal | undefined;
  /** Ends it this many milliseconds after it was made, a number > 0. Default: never. */
  timeoutMs?: number | undefined;
}

/** A completion to be made: of exactly one of `prompt` and `messages`. */
export interface GenerateRequest extends SamplingOptions, RequestControl {
  /** Text to continue, or its token ids. */
  prompt?: string | ArrayLike<number> | undefined;
  /** Put the tokenizer's special tokens around a prompt text, such as a beginning of text. Default true. */
  addSpecialTokens?: boolean | undefined;
  /** A conversation to answer, written by the tokenizer's chat template; a plain one stands in where it has none. */
  messages?: readonly ChatMessage[] | undefined;
  /** For the template. `addGenerationPrompt` is true by default. */
  chat?: ChatOptions | undefined;
  /** Leave special tokens out of the text. Default true. */
  skipSpecialTokens?: boolean | undefined;
  /** Tell for each token which experts predicted it. Default false. */
  routing?: boolean | undefined;
  /**
   * What happens when `signal` or `timeoutMs` ends it: 'throw' the signal's reason or SGEMOE_TIMEOUT; or 'return' what
   * exists, with the finishReason 'abort' or 'timeout'. Default 'throw'.
   */
  onAbort?: 'throw' | 'return' | undefined;
  /**
   * As of Sampler, but none at all by default; from 0 on `logprobs` are told, with so many alternatives for each token.
   */
  topLogprobs?: number | undefined;
}

/**
 * Why a completion ended: 'stop': a stop text, a stop token or the end of text; 'length': maxTokens, or the context is full;
 * 'abort' and 'timeout': see `onAbort`.
 */
export type FinishReason = 'stop' | 'length' | 'abort' | 'timeout';

export interface Usage {
  promptTokens: number;
  /** Prompt tokens among them that a kept sequence began with, so that they were not computed again. */
  reusedTokens: number;
  completionTokens: number;
}

export interface TokenProbability {
  token: number;
  /**
   * What the token adds to the text. A part of a character adds nothing, the part that completes it all of it, so that the
   * texts of a completion's tokens joined are its text. Among `top`, a part of a character is U+FFFD, and a special token
   * its name.
   */
  text: string;
  /** The token's own UTF-8 bytes, also those of a part of a character; null without a tokenizer. */
  bytes: number[] | null;
  /** Natural logarithm of the model's probability, whatever the sampling options make of it. */
  logprob: number;
}

export interface TokenLogprob extends TokenProbability {
  /** The `topLogprobs` most probable tokens, best first. */
  top: TokenProbability[];
}

/** The experts that the position before a token went through, which predicted it: by layer, most probable first. */
export interface TokenRouting {
  /** [nLayers][K] */
  experts: number[][];
  /** [nLayers][K] their gate weights. */
  weights: number[][];
}

/** What has come since the last chunk: one or more tokens, or the end. Text may lag behind tokens: see TextStream. */
export interface StreamChunk {
  text: string;
  /** The tokens chosen, a stop token excepted. */
  tokens: number[];
  /** What each token adds to the text, as in `logprobs`. */
  texts: string[];
  /** One for each token, null unless `topLogprobs` is given. */
  logprobs: TokenLogprob[] | null;
  /** One for each token, null unless asked for. */
  routing: TokenRouting[] | null;
  /** null but in the last chunk. */
  finishReason: FinishReason | null;
  /** null but in the last chunk. */
  usage: Usage | null;
}

/** A whole completion: all chunks in one. */
export interface Completion extends StreamChunk {
  finishReason: FinishReason;
  usage: Usage;
}

/** Counts of observations by upper bound, as Prometheus has them. */
export interface Histogram {
  /** Upper bounds in seconds; the last is Infinity. */
  readonly bounds: readonly number[];
  /** Observations up to each bound and above the one before. */
  readonly counts: readonly number[];
  readonly count: number;
  /** Sum of the observations in seconds. */
  readonly sum: number;
}

export interface EngineMetrics {
  /** Since the engine was opened. accepted = completed + failed + aborted + waiting + running. */
  requests: {
    accepted: number;
    /** Ended by themselves. */
    completed: number;
    /** Ended by an error, such as a prompt that is too long. */
    failed: number;
    /** Ended by a signal, a timeout, an abandoned iterator, or close. */
    aborted: number;
    /** Not accepted: the queue was full, or the engine closing. */
    refused: number;
  };
  waiting: number;
  running: number;
  /** Tokens read, those that embeddings are made of included; of them not computed again; and written. */
  promptTokens: number;
  reusedTokens: number;
  completionTokens: number;
  /** Completion tokens a second over the last 10 seconds. */
  tokensPerSecond: number;
  /** Seconds from a request to its first token. */
  timeToFirstToken: Histogram;
  /** Seconds from a request for a completion to its end, of those that ended by themselves. */
  duration: Histogram;
  /** Tokens in the caches, of running sequences and kept ones, and how many there is room for. */
  cache: { tokens: number; capacity: number };
  /** [nLayers][nExperts] times that each expert was chosen for a token, prompts included. */
  expertLoad: number[][];
  /** Workers that can take requests, and how many have been replaced. */
  workers: { ready: number; replaced: number };
}
