/** Messages between the engine's thread and its workers. */

import type { SharedRank } from '../../backend/collectives';
import type { BackendRequest } from '../../backend/kernels';
import { ERROR_CODES, type ErrorCode, SgemoeError } from '../../base/errors';
import type { Precision } from '../../base/precision';
import type { KvCacheDtype } from '../../base/storageTypes';
import type { TokenizerFiles } from '../../checkpoint/tokenizerFiles';
import type { SharedLora, SharedModel } from '../../memory/sharedModel';
import type { CompiledConstraint } from '../../sampling/constraints/constraint';
import type { ConstraintSource } from '../../sampling/constraints/options';
import type { VocabularyData } from '../../sampling/constraints/vocabularyData';
import type { ResolvedSampling } from '../../sampling/options';
import type { ChatMessage, ChatOptions } from '../../text/chatTemplate';
import type { ToolCallDelta } from '../../text/toolCalls/parser';
import type { ResolvedEmbeddingForm } from './embedOptions';
import type { ToolWork } from './toolRequest';
import type { FinishReason, TokenLogprob, TokenRouting, Usage } from './types';

/** An adapter for a worker, which knows it by its number. */
export interface AdapterSetup {
  readonly id: number;
  readonly shared: SharedLora;
}

export interface WorkerSetup {
  role: 'decode';
  model: SharedModel;
  /** Those that the engine has when the worker starts; others are sent. */
  adapters: readonly AdapterSetup[];
  /** `BackendInfo.request` of the model's kernels. */
  backend: BackendRequest;
  /** The addon's file; null for a backend without one. */
  addonPath: string | null;
  tokenizer: TokenizerFiles | null;
  /** Largest number of concurrent sequences. */
  slots: number;
  contextLength: number;
  maxStepTokens: number;
  kvCacheDtype: KvCacheDtype;
  precision: Precision;
  speculateTokens: number;
  /** The memory of WorkerCounters. */
  counters: Float64Array;
  /** The rank as which the worker goes on, and the experts of each rank; null where all experts are here. */
  experts: {
    readonly rank: SharedRank;
    readonly counts: readonly number[];
    readonly groupSize: number;
  } | null;
}

/** The source of a prompt or a text. */
export type TextSource =
  | { ids: Int32Array }
  | { text: string; addSpecialTokens: boolean; suffix?: string | undefined }
  | { messages: readonly ChatMessage[]; chat: ChatOptions };

/** A prompt as ids. */
export interface Prompt {
  ids: Int32Array;
  /** A stop text that the form of the prompt needs; null for none. */
  stop: string | null;
}

/** How long the text thread may take for a request, in milliseconds. */
export interface TextLimits {
  /** For each chat template, and each constraint to be compiled. */
  templateTimeoutMs: number;
  /** For all texts. */
  tokenizeTimeoutMs: number;
}

export interface TextSetup {
  role: 'text';
  tokenizer: TokenizerFiles | null;
  limits: TextLimits;
}

/** Work of the text thread. */
export type TextTask =
  | {
      kind: 'prompts';
      sources: readonly TextSource[];
      constraints: readonly ConstraintSource[];
      /** Whether the result has the vocabulary for constraints. */
      wantsVocabulary: boolean;
      /** Tokens that a text may have; Infinity for any number. */
      context: number;
    }
  | { kind: 'detokenize'; ids: Int32Array; skipSpecialTokens: boolean };

export type TextResult =
  | {
      prompts: readonly Prompt[];
      compiled: readonly CompiledConstraint[];
      vocabulary: VocabularyData | null;
    }
  | { text: string };

/** Answers of the text thread: it is ready, or has done the task that it was given. */
export type FromTextThread =
  | { ready: true }
  | { ready: false; result: TextResult }
  | { ready: false; error: WireError };

export interface GenerateWork {
  kind: 'generate';
  source: TextSource;
  /** The number of the adapter; null for the model as it is. */
  adapter: number | null;
  sampling: ResolvedSampling;
  skipSpecialTokens: boolean;
  /** Whether the completion begins with the prompt. */
  echo: boolean;
  logprobs: boolean;
  routing: boolean;
  /** How calls of functions are read from the answer; null if they aren't. */
  tools: ToolWork | null;
}

export interface EmbedWork {
  kind: 'embed';
  form: ResolvedEmbeddingForm;
  adapter: number | null;
  sources: readonly TextSource[];
}

export interface TokenizeWork {
  kind: 'tokenize';
  source: TextSource;
}

export interface DetokenizeWork {
  kind: 'detokenize';
  ids: Int32Array;
  skipSpecialTokens: boolean;
}

export type Work = GenerateWork | EmbedWork | TokenizeWork | DetokenizeWork;

/** A completion whose prompt is ids. */
export interface CompletionWork extends Omit<GenerateWork, 'source'> {
  prompt: Prompt;
  /** The constraints that it may be held to. */
  compiled: readonly CompiledConstraint[];
  /** What constraints follow; null where no token is held to one. */
  vocabulary: VocabularyData | null;
}

/** Texts to embed as ids. */
export interface EmbeddingWork extends Omit<EmbedWork, 'sources'> {
  texts: readonly Int32Array[];
}

/** Work that takes part in steps, which begins once its texts are ids. */
export type StepWork = CompletionWork | EmbeddingWork;

/** Ends a worker between two steps, so that the ranks that answer it are let go. */
export interface EndMessage {
  readonly end: true;
}

export type ToWorker =
  | { id: number; work: StepWork; client: string }
  | { id: number; work: null /** Ends it. */; cancel: true };

/** Adapters come and go between pieces of work, whose messages keep their order with these. */
export type AdapterMessage = { addAdapter: AdapterSetup } | { dropAdapter: number };

/** New tokens of a completion; the last one has a finishReason. */
export interface WorkerChunk {
  text: string;
  tokens: number[];
  texts: string[];
  logprobs: TokenLogprob[] | null;
  routing: TokenRouting[] | null;
  toolCalls: ToolCallDelta[];
  endToken: TokenLogprob | null;
  finishReason: FinishReason | null;
  /** Usage so far. */
  usage: Usage;
}

export interface EmbeddingResult {
  /** An embedding [dimensions] for each text. */
  embeddings: Float32Array[];
  promptTokens: number;
}

export type WorkResult = EmbeddingResult | Int32Array | string;

/** An event of a piece of work; only its last event has `end`. */
export interface WorkerEvent {
  id: number;
  end: boolean;
  chunk?: WorkerChunk | undefined;
  /** The result of work other than 'generate'. */
  result?: WorkResult | undefined;
  error?: WireError | undefined;
}

export type FromWorker =
  | { ready: true }
  | { ready: false; events: WorkerEvent[] }
  /** The other ranks don't answer any more, so it computes nothing from now on. */
  | { ready: false; lost: WireError };

/** An error as plain data, since structured cloning drops codes. */
export interface WireError {
  name: string;
  message: string;
  code?: string | undefined;
}

export function toWire(error: unknown): WireError {
  const { name, message, code } = error as SgemoeError;
  return { name: String(name), message: String(message), code };
}

export function fromWire({ name, message, code }: WireError): Error {
  if (code !== undefined && code in ERROR_CODES) return new SgemoeError(code as ErrorCode, message);
  if (name === 'TypeError') return new TypeError(message);
  if (name === 'RangeError') return new RangeError(message);
  return new Error(message);
}
