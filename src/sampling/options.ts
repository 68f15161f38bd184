import {
  boolean,
  checkValue,
  integer,
  type Kind,
  number,
  type OptionTable,
  other,
  resolveOptions,
} from '../base/options';
import { DEFAULT_SEED } from '../base/random';
import { type ConstraintOptions, constraintOf, type JsonSchema, plainSchema } from './constraints/options';

/**
 * How the tokens of a completion are chosen, and where it ends. The options apply in the order of `transformers` and vLLM:
 * logitBias, repetitionPenalty, presencePenalty and frequencyPenalty; the constraint; temperature; topK; topP among the
 * rest; minP.
 */
export interface SamplingOptions {
  /** Divisor of the logits, a finite number >= 0: below 1 sharpens, above 1 flattens, 0 takes the largest. Default 1. */
  temperature?: number | undefined;
  /** Keeps the k most probable tokens, an integer >= 1. Default: keeps all. Ignored at temperature 0. */
  topK?: number | undefined;
  /**
   * Keeps the smallest set of most probable tokens whose probability reaches p, in [0, 1]; 0 keeps the most probable one.
   * Default 1: all. Ignored at temperature 0.
   */
  topP?: number | undefined;
  /** Keeps tokens at least p times as probable as the best one, p in [0, 1]. Default 0: all. Ignored at temperature 0. */
  minP?: number | undefined;
  /**
   * A number > 0 that divides the positive logits, and multiplies the negative logits, of tokens in the prompt or generated
   * (Keskar et al. 2019). Default 1, which changes nothing.
   */
  repetitionPenalty?: number | undefined;
  /** A finite number that is subtracted from the logits of generated tokens. Default 0. */
  presencePenalty?: number | undefined;
  /** A finite number that is subtracted from a token's logit for each time that it was generated. Default 0. */
  frequencyPenalty?: number | undefined;
  /** Numbers added to logits, by token id; not NaN or Infinity, but -Infinity forbids the token. Default: none. */
  logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number> | undefined;
  /** Seed of the 64-bit generator, a safe integer or a bigint. Default 42. Ignored at temperature 0. */
  seed?: number | bigint | undefined;
  /** Number of most probable tokens to report with their log-probabilities, an integer >= 0. Default 0. */
  topLogprobs?: number | undefined;
  /** The largest number of new tokens, an integer >= 0. Default: as many as the context has room for. */
  maxTokens?: number | undefined;
  /**
   * The smallest number of new tokens, an integer in [0, maxTokens]: before it no end token can be chosen, and no stop text
   * ends the completion. Default 0.
   */
  minTokens?: number | undefined;
  /** Goes on after the end tokens of the checkpoint and the tokenizer, which then are tokens like others. Default false. */
  ignoreEos?: boolean | undefined;
  /** Texts, not empty, that end the completion and aren't part of it. Default: none. */
  stop?: string | readonly string[] | undefined;
  /** Token ids that end the completion and aren't part of it, beside the tokenizer's end of text. Default: none. */
  stopTokens?: readonly number[] | undefined;
  /**
   * A grammar in llama.cpp's form (GBNF) whose rule `root` the text follows. Of this option and the next three at most one may
   * be given. The text ends by itself once nothing can follow. Default: none.
   */
  grammar?: string | undefined;
  /** A JSON Schema: the text is a JSON value that validates. What isn't supported is refused by name. Default: none. */
  jsonSchema?: JsonSchema | undefined;
  /** A regular expression that the whole text matches, without backreferences and lookaround. Default: none. */
  regex?: string | undefined;
  /** Texts, one at least, of which the text is one. Default: any text. */
  choice?: readonly string[] | undefined;
}

/** SamplingOptions with all defaults filled in. */
export interface ResolvedSampling extends ConstraintOptions {
  readonly temperature: number;
  /** Infinity keeps all tokens. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  readonly seed: number | bigint;
  readonly topLogprobs: number;
  /** Infinity sets no limit. */
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  readonly stop: readonly string[];
  readonly stopTokens: readonly number[];
}

const ALL = Number.POSITIVE_INFINITY;
const IS_JSON = 'the text is JSON that validates; what is not supported is refused';

/** The table of sampling options in the order in which they apply, with the flags of `sgemoe generate`. */
export const SAMPLING_OPTIONS: OptionTable<SamplingOptions> = {
  maxTokens: integer(
    { min: 0 },
    {
      doc: 'most new tokens',
      default: ALL,
      absent: 'as many as the context has room for',
      cli: {
        flag: '--max-tokens <n>',
        doc: 'most new tokens (bytes, with the byte tokenizer); an end-of-text token ends the text earlier',
        default: 256,
      },
    },
    ALL,
  ),
  minTokens: integer(
    { min: 0 },
    {
      doc: 'fewest new tokens: before them no end token is chosen, and no stop text ends the text',
      default: 0,
      cli: { flag: '--min-tokens <n>' },
    },
  ),
  ignoreEos: boolean({
    doc: 'go on after end tokens',
    default: false,
    cli: { flag: '--ignore-eos', absent: 'an end token ends the text' },
  }),
  logitBias: other('an object or a Map', isObject, {
    doc: 'added to logits, by token id; -Infinity forbids a token',
    absent: 'none',
    cli: {
      flag: '--logit-bias <id=b>',
      doc: 'adds b to the logit of a token; -Infinity forbids it; may be given several times',
    },
  }),
  repetitionPenalty: number(
    { above: 0 },
    {
      doc: 'divides positive logits of tokens in the prompt or the text, and multiplies negative ones',
      note: '1 is none',
      default: 1,
      cli: { flag: '--repetition-penalty <r>', doc: 'makes tokens of the prompt and the text less probable' },
    },
  ),
  presencePenalty: number(
    {},
    {
      doc: 'subtracted from the logits of tokens that the text has (not the prompt)',
      note: '0 is none',
      default: 0,
      cli: { flag: '--presence-penalty <a>' },
    },
  ),
  frequencyPenalty: number(
    {},
    {
      doc: 'subtracted once for each time that the text has a token (not the prompt)',
      note: '0 is none',
      default: 0,
      cli: {
        flag: '--frequency-penalty <b>',
        doc: 'subtracted from a logit once for each time that the text has the token',
      },
    },
  ),
  temperature: number(
    { min: 0 },
    {
      doc: 'divides the logits: below 1 plays safe, above 1 varies',
      note: '0 always takes the most probable token and ignores the next four',
      default: 1,
      cli: {
        flag: '--temperature <t>',
        note: '0 always takes the most probable token',
        default: 0.8,
      },
    },
  ),
  topK: integer(
    { min: 1 },
    {
      doc: 'draw from the k most probable tokens only',
      default: ALL,
      absent: 'all',
      cli: { flag: '--top-k <k>' },
    },
    ALL,
  ),
  topP: number(
    { min: 0, max: 1 },
    {
      doc: 'of these, draw from the fewest that together have probability p',
      note: '1 is all, 0 the most probable one',
      default: 1,
      cli: { flag: '--top-p <p>' },
    },
  ),
  minP: number(
    { min: 0, max: 1 },
    {
      doc: 'of these, draw from tokens at least p times as probable as the best one',
      note: '0 is all',
      default: 0,
      cli: { flag: '--min-p <p>' },
    },
  ),
  seed: other<number | bigint>(
    'a safe integer or a bigint',
    (value) => typeof value === 'number' || typeof value === 'bigint',
    {
      doc: 'seed of the random choices: the same seed, options and logits give the same tokens',
      default: DEFAULT_SEED,
      cli: {
        flag: '--seed <n>',
        doc: 'seed of the random choices',
        kind: integer({ min: 0 }, { doc: '' }),
      },
    },
    (value) => typeof value === 'bigint' || Number.isSafeInteger(value),
  ),
  topLogprobs: integer(
    { min: 0 },
    {
      doc: 'return this many of the most probable tokens with the log-probability of each token',
      default: 0,
      cli: { flag: '--top-logprobs <n>', doc: 'with --logprobs: tell the n most probable tokens too' },
    },
  ),
  stop: other(
    'a text or an array of them, none empty',
    isTexts,
    {
      doc: 'texts before which the text ends; they may span tokens',
      absent: 'none',
      cli: {
        flag: '--stop <text>',
        doc: 'ends the text before these words; may be given several times',
      },
    },
    (stop) => (typeof stop === 'string' ? stop !== '' : !stop.includes('')),
  ),
  stopTokens: other('an array', Array.isArray, {
    doc: "token ids that end the text, in addition to the checkpoint's own end tokens",
    absent: 'none',
    cli: { flag: '--stop-token <id>', doc: 'token id that ends the text; may be given several times' },
  }),
  grammar: other('a text', isString, {
    doc: "grammar in llama.cpp's form (GBNF) that the text follows",
    absent: 'none',
    cli: {
      flag: '--grammar <file>',
      doc: "file of a grammar in llama.cpp's form (GBNF) that the text follows",
    },
  }),
  jsonSchema: other('an object or a boolean', isSchema, {
    doc: `JSON Schema: ${IS_JSON}`,
    absent: 'none',
    cli: {
      flag: '--json-schema <file>',
      doc: `file of a JSON Schema: ${IS_JSON}`,
      kind: other('a text', isString, { doc: '' }),
    },
  }),
  regex: other('a text', isString, {
    doc: 'regular expression that the whole text matches',
    absent: 'none',
    cli: { flag: '--regex <pattern>' },
  }),
  choice: other('an array of texts, one at least', isTextList, {
    doc: 'texts of which the text is one',
    absent: 'any text',
    cli: { flag: '--choice <text>', doc: 'the text is one of these; given several times' },
  }),
};

/**
 * Checks options and fills in defaults.
 * @throws TypeError or RangeError that names the option, what it must be and what arrived.
 */
export function resolveSampling(options: SamplingOptions, vocabSize: number): ResolvedSampling {
  const resolved = resolveOptions('sampling', SAMPLING_OPTIONS, options);
  const { logitBias = {}, stop = [], stopTokens = [], topLogprobs } = resolved;
  checkValue('sampling: topLogprobs', integer({ min: 0, max: vocabSize }, { doc: '' }), topLogprobs);
  checkValue(
    'sampling: minTokens',
    integer({ min: 0, max: resolved.maxTokens }, { doc: '' }),
    resolved.minTokens,
  );
  const token = integer({ min: 0, below: vocabSize }, { doc: '' });
  for (const each of stopTokens) checkValue('stopTokens: a token', token, each);
  constraintOf(resolved);
  return {
    ...(resolved as Omit<ResolvedSampling, 'logitBias' | 'stop' | 'stopTokens'>),
    jsonSchema: plainSchema(resolved.jsonSchema),
    stop: typeof stop === 'string' ? [stop] : stop,
    stopTokens,
    logitBias: biasesOf(logitBias, token),
  };
}

const BIAS: Kind<number> = {
  must: 'a number below Infinity',
  type: 'a number',
  isType: (value) => typeof value === 'number',
  holds: (value) => value < ALL,
};

function biasesOf(bias: NonNullable<SamplingOptions['logitBias']>, token: Kind<number>): Map<number, number> {
  const entries = bias instanceof Map ? [...bias] : Object.entries(bias);
  return new Map(
    entries.map(([key, value]) => {
      checkValue('logitBias: a key', token, Number(key));
      checkValue('logitBias: a value', BIAS, value);
      return [Number(key), value];
    }),
  );
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function isTexts(value: unknown): boolean {
  const texts: unknown[] = Array.isArray(value) ? value : [value];
  return texts.every((text) => typeof text === 'string');
}

function isString(value: unknown): boolean {
  return typeof value === 'string';
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(isString);
}

function isSchema(value: unknown): boolean {
  return typeof value === 'boolean' || (isObject(value) && !Array.isArray(value));
}
