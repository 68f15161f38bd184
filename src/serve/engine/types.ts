import type { LoadOptions } from '../../model/model';
import type { ModelDtype } from '../../model/storedWeights';
import type { SamplingOptions } from '../../sampling/options';
import type { ChatMessage, ChatOptions } from '../../text/chatTemplate';
import type { ToolCallDelta } from '../../text/toolCalls/parser';
import type { Tool, ToolChoice } from '../../text/toolCalls/tools';
import type { EngineOptions } from './options';

export interface OpenEngineOptions
  extends EngineOptions,
    Pick<LoadOptions, 'onNote' | 'hub' | 'expertRanks'> {
  /** The type of the matrices, as `LoadOptions.dtype`. Default 'stored': what the files have in 16 bits or in blocks stays there. */
  dtype?: ModelDtype | undefined;
}

/** How a request may be ended early. */
export interface RequestControl {
  /** Ends the request, waiting or running, before the next token. */
  signal?: AbortSignal | undefined;
  /** Ends it this many milliseconds after it was made, a number > 0. Default: never. */
  timeoutMs?: number | undefined;
  /**
   * Whose request it is. Of the waiting requests one goes first whose client has the fewest running ones, and the prompts of a
   * client have one share of a step. Default: each request is a client of its own.
   */
  client?: string | undefined;
  /**
   * A name that requests have in common which belong together, such as the choices of one answer. They are computed in at most
   * three quarters of an engine's places, so that others find one. Default: it belongs to no others.
   */
  group?: string | undefined;
}

/** A request for a completion. It must have exactly one of `prompt` and `messages`. */
export interface GenerateRequest extends SamplingOptions, RequestControl {
  /** Name of the engine's adapter that answers. Default: the model as it is. */
  adapter?: string | undefined;
  /** Text to continue, or its token ids. */
  prompt?: string | ArrayLike<number> | undefined;
  /** Adds the tokenizer's special tokens, such as a beginning of text, to a prompt text. Default true. */
  addSpecialTokens?: boolean | undefined;
  /** A conversation to answer. The tokenizer's chat template writes it, or a plain template if there is none. */
  messages?: readonly ChatMessage[] | undefined;
  /** Options of the template. `addGenerationPrompt` is true by default, unless `continueFinalMessage` is. */
  chat?: ChatOptions | undefined;
  /**
   * Functions that the model may call, beside `messages`. The template shows them; calls are read from the answer into
   * `toolCalls`. While arguments are written, they are held to an object, by its schema if the function is strict.
   */
  tools?: readonly Tool[] | undefined;
  /**
   * 'required' and { name } hold the whole answer to calls whose arguments are valid by their functions' schemas; 'none' leaves
   * the tools out. Default 'auto'.
   */
  toolChoice?: ToolChoice | undefined;
  /** Whether an answer may have more than one call. Default true. */
  parallelToolCalls?: boolean | undefined;
  /** Leaves special tokens out of the text. Default true. */
  skipSpecialTokens?: boolean | undefined;
  /** The text behind a gap that the completion fills, for a tokenizer with tokens for it. `prompt` is then a text. */
  suffix?: string | undefined;
  /**
   * Begins `text`, `tokens`, `texts`, `logprobs` and `routing` with the prompt's. With `topLogprobs` and maxTokens 0 the
   * prompt is only scored. Default false.
   */
  echo?: boolean | undefined;
  /** Reports the experts that predicted each token. Default false. */
  routing?: boolean | undefined;
  /**
   * What happens when `signal` or `timeoutMs` ends the request: 'throw' throws the signal's reason or SGEMOE_TIMEOUT;
   * 'return' returns what exists, with the finishReason 'abort' or 'timeout'. Default 'throw'.
   */
  onAbort?: 'throw' | 'return' | undefined;
  /**
   * The number of alternatives to report for each token, as in Sampler. Any number, also 0, makes `logprobs` available.
   * Default: no `logprobs`.
   */
  topLogprobs?: number | undefined;
}

/**
 * Why a completion ended: 'stop' at a stop text, a stop token or the end of text; 'tool_calls' likewise, with calls; 'length' at maxTokens or a full context;
 * 'abort' and 'timeout' as `onAbort` says.
 */
export type FinishReason = 'stop' | 'tool_calls' | 'length' | 'abort' | 'timeout';

export interface Usage {
  promptTokens: number;
  /** The prompt tokens among them that were reused from the cache instead of computed. */
  reusedTokens: number;
  completionTokens: number;
}

export interface TokenProbability {
  token: number;
  /**
   * The text that the token adds. A part of a character adds nothing; the part that completes it adds the whole character,
   * so that the joined texts of a completion's tokens are its text; those that a stop text cuts off add what is left. In `top`, a part of a character is U+FFFD and a special
   * token is its name.
   */
  text: string;
  /** The token's own UTF-8 bytes, even if they are a part of a character; null without a tokenizer. */
  bytes: number[] | null;
  /**
   * Natural logarithm of the model's probability, before sampling options change it. NaN for the first token of an echoed
   * prompt, which nothing predicts.
   */
  logprob: number;
}

export interface TokenLogprob extends TokenProbability {
  /** The `topLogprobs` most probable tokens, best first. */
  top: TokenProbability[];
}

/** The experts that predicted a token (those of the position before it): by layer, most probable first. */
export interface TokenRouting {
  /** [nLayers][K]: the chosen experts; none of a dense layer. */
  experts: number[][];
  /** [nLayers][K]: their gate weights. */
  weights: number[][];
}

/**
 * One or more new tokens, or the end. A token comes when its text is certain: while a character is incomplete or a stop text
 * may have begun, it waits. The joined `texts` of all chunks are the text.
 */
export interface StreamChunk {
  text: string;
  /** The chosen tokens, without a stop token. */
  tokens: number[];
  /** The text that each token adds, as in `logprobs`. */
  texts: string[];
  /** An entry for each token; null unless `topLogprobs` is given. */
  logprobs: TokenLogprob[] | null;
  /** An entry for each token; null unless `routing` is true. */
  routing: TokenRouting[] | null;
  /**
   * Calls of functions, and pieces of them: `id` and `name` come with the first one of a call, the joined `arguments` are JSON.
   * `text` is then what stands outside calls, while `texts` join to all of the answer.
   */
  toolCalls: ToolCallDelta[];
  /** The token that ended the text, with its probability; null unless `topLogprobs` is given and a token did. */
  endToken: TokenLogprob | null;
  /** Why it ended; null except in the last chunk. */
  finishReason: FinishReason | null;
  /** Tokens used; null except in the last chunk. */
  usage: Usage | null;
  /** Tokens used so far: completionTokens are those of the chunks so far. */
  usageSoFar: Usage;
}

/** A call of a function. `arguments` is the JSON of an object, or its beginning where the answer is cut. */
export interface ToolCall extends ToolCallDelta {
  id: string;
  name: string;
}

/** A whole completion: all chunks in one. */
export interface Completion extends StreamChunk {
  toolCalls: ToolCall[];
  finishReason: FinishReason;
  usage: Usage;
}

/** Counts of observations by bucket. */
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
  /** Requests since the engine was opened: accepted = completed + failed + aborted + waiting + running. */
  requests: {
    accepted: number;
    /** Requests that ended by themselves. */
    completed: number;
    /** Requests that ended with an error, such as a prompt that is too long. */
    failed: number;
    /** Requests ended by a signal, a timeout, an abandoned iterator, or close. */
    aborted: number;
    /** Requests that weren't accepted because the queue was full or the engine closing. */
    refused: number;
  };
  waiting: number;
  running: number;
  /** Prompt tokens (including texts to embed), those of them that were reused, and completion tokens. */
  promptTokens: number;
  reusedTokens: number;
  completionTokens: number;
  /** Completion tokens per second over the last 10 seconds. */
  tokensPerSecond: number;
  /** Seconds from a request to its first token. */
  timeToFirstToken: Histogram;
  /** Seconds from the request to the end of completions that ended by themselves. */
  duration: Histogram;
  /** Tokens in the caches (of running and of kept sequences), and the caches' capacity in tokens. */
  cache: { tokens: number; capacity: number };
  /** Tokens that steps guessed (`speculateTokens`), and those of them that were right. */
  speculation: { draftedTokens: number; acceptedTokens: number };
  /** [nLayers][nExperts]: how often each expert was chosen for a token, prompts included; empty for a dense layer. */
  expertLoad: number[][];
  /** The number of workers that can take requests, and of workers that were replaced. */
  workers: { ready: number; replaced: number };
}
