import {
  boolean,
  choice,
  integer,
  isRecordOfTexts,
  type OptionTable,
  other,
  resolveOptions,
} from '../../base/options';
import { PRECISIONS, type Precision } from '../../base/precision';
import { KV_CACHE_DTYPES, type KvCacheDtype } from '../../base/storageTypes';
import { MOST_DRAFTED } from '../../sampling/promptLookup';
import { TOOL_CALL_FORMAT_NAMES, type ToolCallFormatName } from '../../text/toolCalls/formats';

/** Options of an engine. */
export interface EngineOptions {
  /**
   * Threads that decode, an integer in [1, 64]. Each has its own cache and batch; all share the weights. More than one
   * pays when a step is too small to occupy all cores. Default 1.
   */
  workers?: number | undefined;
  /** Size of the process's thread pool, which all workers share, an integer in [1, 256]. Default: as it is. */
  threads?: number | undefined;
  /** The largest number of sequences that a worker decodes together, an integer >= 1. Default 16. */
  maxBatch?: number | undefined;
  /** The largest number of requests that wait for a place in a batch, an integer >= 0; more are refused. Default 256. */
  maxQueue?: number | undefined;
  /** The largest number of tokens of a sequence, prompt included, in [1, maxSeqLen]. Default: maxSeqLen, at most 4096. */
  contextLength?: number | undefined;
  /**
   * The largest number of tokens of a step, an integer >= maxBatch. Prompts are computed in chunks that fill what running
   * sequences leave of it. A smaller value disturbs running sequences less, a larger one reads prompts faster.
   * Default: 4 maxBatch, at least 128: the weights are read once a step, so a step that is many sequences' should be long.
   */
  maxStepTokens?: number | undefined;
  /**
   * How keys and values are kept, as in DecoderOptions: 'float32', 'float16' or 'q8_0' (headDim a multiple of 32).
   * Default 'float32'.
   */
  kvCacheDtype?: KvCacheDtype | undefined;
  /**
   * What products of prompts multiply, as in DecoderOptions: 'float32', or 'bfloat16' for float32 weights on a processor with a
   * matrix unit. What decodes in the same step as 32 or more tokens of a prompt is rounded, too. Default 'float32'.
   */
  precision?: Precision | undefined;
  /**
   * Where a request is silent: 'model' takes temperature, top_k, top_p, min_p, repetition_penalty and do_sample of the
   * checkpoint's generation_config.json, 'ignore' the defaults of SamplingOptions. Default 'model'.
   */
  generationConfig?: 'model' | 'ignore' | undefined;
  /** Milliseconds that a chat template may take, and a constraint to be compiled, an integer in [1, 1,000,000]. Default 1,000. */
  templateTimeoutMs?: number | undefined;
  /** Milliseconds that the texts of a request may take to be tokenized, an integer in [1, 1,000,000]. Default 10,000. */
  tokenizeTimeoutMs?: number | undefined;
  /**
   * The most tokens of an answer that a step guesses, as in GenerateOptions, an integer in [0, 128]. Guesses take what prompts
   * leave of maxStepTokens. Default 0: none.
   */
  speculateTokens?: number | undefined;
  /** The form in which the model writes calls of functions; 'auto' tells it from the chat template. Default 'auto'. */
  toolCallFormat?: 'auto' | ToolCallFormatName | undefined;
  /**
   * Adapters of the model: their folders by name, as `addAdapter` adds them. A request chooses one by `adapter`. Default: none.
   */
  adapters?: Readonly<Record<string, string>> | undefined;
  /** Freezes the model (`model.freeze()`), so that nobody writes to weights in use. Default true. */
  freeze?: boolean | undefined;
}

export type ResolvedEngineOptions = Required<Omit<EngineOptions, 'threads'>> & Pick<EngineOptions, 'threads'>;

const MOST_CONTEXT = 4096;
/** Least default of maxStepTokens, and tokens for each place: with 64 places, 256 gave a quarter more tokens/s than 128. */
const STEP_TOKENS = 128;
const STEP_TOKENS_PER_PLACE = 4;
const MOST_MS = 1_000_000;

/** Flags of `sgemoe serve`; other commands have --threads of it, too. */
export const ENGINE_OPTIONS: OptionTable<EngineOptions> = {
  workers: integer(
    { min: 1, max: 64 },
    {
      doc: 'threads that decode, each with a cache and a batch of its own',
      default: 1,
      cli: { flag: '--workers <n>' },
    },
  ),
  threads: integer(
    { min: 1, max: 256 },
    {
      doc: "the process's thread pool, which all workers share",
      absent: 'as it is',
      cli: { flag: '--threads <n>', doc: 'threads of the matmuls', absent: 'one per core' },
    },
  ),
  maxBatch: integer(
    { min: 1 },
    { doc: 'sequences that a worker decodes together', default: 16, cli: { flag: '--max-batch <n>' } },
  ),
  maxQueue: integer(
    { min: 0 },
    {
      doc: 'requests that wait beyond those; more are refused with `SGEMOE_QUEUE_FULL`',
      default: 256,
      cli: { flag: '--max-queue <n>', doc: 'requests that wait beyond those; more are refused' },
    },
  ),
  contextLength: integer(
    { min: 1 },
    {
      doc: 'tokens of a sequence, prompt included; at most maxSeqLen',
      absent: `maxSeqLen, at most ${MOST_CONTEXT}`,
      cli: {
        flag: '--context-length <n>',
        doc: 'most tokens of a sequence',
        absent: `what the model knows, at most ${MOST_CONTEXT}`,
      },
    },
  ),
  maxStepTokens: integer(
    { min: 1 },
    {
      doc: 'tokens of a step, at least maxBatch: prompts are read in chunks of what the running sequences leave of it',
      absent: `${STEP_TOKENS_PER_PLACE} maxBatch, at least ${STEP_TOKENS}`,
      cli: { flag: '--max-step-tokens <n>', doc: 'most tokens of a step' },
    },
  ),
  kvCacheDtype: choice(KV_CACHE_DTYPES, {
    doc: 'how keys and values are kept: `float16` takes half the memory of `float32`, `q8_0` about a quarter',
    default: 'float32',
    cli: { flag: '--kv-cache-dtype <type>', doc: 'how keys and values are kept' },
  }),
  precision: choice(PRECISIONS, {
    doc: 'what products of 32 or more tokens of a prompt by float32 weights multiply; `bfloat16` is faster only on a processor that multiplies it',
    default: 'float32',
    cli: { flag: '--precision <name>' },
  }),
  generationConfig: choice(['model', 'ignore'], {
    doc: "where a request is silent, `model` samples as the checkpoint's generation_config.json says, `ignore` by the defaults",
    default: 'model',
    cli: {
      flag: '--generation-config <which>',
      doc: "where nothing else is said, sample as the checkpoint's generation_config.json says, or ignore that",
    },
  }),
  templateTimeoutMs: integer(
    { min: 1, max: MOST_MS },
    {
      doc: 'milliseconds that a chat template may take, and a constraint to be compiled',
      default: 1_000,
      cli: { flag: '--template-timeout <ms>' },
    },
  ),
  tokenizeTimeoutMs: integer(
    { min: 1, max: MOST_MS },
    {
      doc: 'milliseconds that the texts of a request may take to be tokenized',
      default: 10_000,
      cli: { flag: '--tokenize-timeout <ms>' },
    },
  ),
  speculateTokens: integer(
    { min: 0, max: MOST_DRAFTED },
    {
      doc: 'tokens of an answer that a step guesses from what followed the same tokens before; 0 guesses none',
      note: 'faster where answers repeat their prompt, and the answers are the same',
      default: 0,
      cli: { flag: '--speculate <n>' },
    },
  ),
  toolCallFormat: choice(['auto', ...TOOL_CALL_FORMAT_NAMES], {
    doc: 'the form in which the model writes calls of functions; `auto` tells it from the chat template',
    default: 'auto',
    cli: { flag: '--tool-call-format <form>', doc: 'the form in which the model writes calls of functions' },
  }),
  adapters: other<Readonly<Record<string, string>>>('an object from names to folders', isRecordOfTexts, {
    doc: "adapters of the model: their folders by name; a request's `adapter` chooses one",
    default: {},
    absent: 'none',
  }),
  freeze: boolean({
    doc: 'freeze the model (`model.freeze()`): nobody can write to what is being served',
    default: true,
  }),
};

/** @throws TypeError or RangeError for an option that is unknown or out of range. */
export function resolveEngineOptions(
  what: string,
  options: EngineOptions,
  maxSeqLen: number,
): ResolvedEngineOptions {
  const resolved = resolveOptions<EngineOptions>(what, ENGINE_OPTIONS, options) as ResolvedEngineOptions;
  const { maxBatch } = resolved;
  const { contextLength = Math.min(maxSeqLen, MOST_CONTEXT) } = resolved;
  const { maxStepTokens = Math.max(STEP_TOKENS_PER_PLACE * maxBatch, STEP_TOKENS) } = resolved;
  if (contextLength > maxSeqLen) {
    throw new RangeError(`${what}: contextLength must be at most ${maxSeqLen}, got ${contextLength}`);
  }
  if (maxStepTokens < maxBatch) {
    throw new RangeError(
      `${what}: maxStepTokens must be at least maxBatch, ${maxBatch}, got ${maxStepTokens}`,
    );
  }
  return { ...resolved, contextLength, maxStepTokens };
}
