import { checkOptions } from '../base/checks';
import { DEFAULT_SEED } from '../base/random';

/**
 * How the tokens of a completion are chosen, and where it ends. The order of what changes the probabilities, as in
 * `transformers` and vLLM: logitBias, repetitionPenalty, presencePenalty and frequencyPenalty; temperature; topK; topP
 * among what is left; minP.
 */
export interface SamplingOptions {
  /** Logits are divided by it, a finite number >= 0: below 1 sharpens, above 1 flattens; 0 takes the largest. Default 1. */
  temperature?: number;
  /** Keeps the k most probable tokens, an integer >= 1. Default: all. Ignored at temperature 0. */
  topK?: number;
  /** Keeps the smallest set of most probable tokens whose probability reaches p, in (0, 1]. Default 1: all. Ignored at temperature 0. */
  topP?: number;
  /** Keeps tokens at least p times as probable as the best one, p in [0, 1]. Default 0: all. Ignored at temperature 0. */
  minP?: number;
  /**
   * Of tokens in the prompt or generated, positive logits are divided by it, negative ones multiplied (Keskar et al. 2019),
   * a number > 0. Default 1: none.
   */
  repetitionPenalty?: number;
  /** Subtracted from the logits of tokens that were generated, a finite number. Default 0. */
  presencePenalty?: number;
  /** Subtracted from the logits of generated tokens once for each time, a finite number. Default 0. */
  frequencyPenalty?: number;
  /** Added to logits, by token id: any number but NaN and Infinity; -Infinity forbids the token. Default: none. */
  logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number>;
  /** Start of the 64-bit generator, a safe integer or a bigint. Default 42. Ignored at temperature 0. */
  seed?: number | bigint;
  /** How many most probable tokens are told with their log-probabilities, an integer >= 0. Default 0. */
  topLogprobs?: number;
  /** Most new tokens, an integer >= 0. Default: as many as the context has room for. */
  maxTokens?: number;
  /** Texts that end the completion, not empty; they are not part of it. Default: none. */
  stop?: string | readonly string[];
  /** Token ids that end the completion and are not part of it, beside the tokenizer's end of text. Default: none. */
  stopTokens?: readonly number[];
}

/** SamplingOptions with every default in place. */
export interface ResolvedSampling {
  readonly temperature: number;
  /** Infinity: all. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  readonly seed: number | bigint;
  readonly topLogprobs: number;
  /** Infinity: no limit of its own. */
  readonly maxTokens: number;
  readonly stop: readonly string[];
  readonly stopTokens: readonly number[];
}

export const SAMPLING_OPTIONS: readonly (keyof SamplingOptions)[] = [
  ...(['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'presencePenalty'] as const),
  ...(['frequencyPenalty', 'logitBias', 'seed', 'topLogprobs', 'maxTokens', 'stop', 'stopTokens'] as const),
];

/**
 * Checks options and puts the defaults in place.
 * @throws TypeError or RangeError naming the option, what it must be and what came.
 */
export function resolveSampling(options: SamplingOptions, vocabSize: number): ResolvedSampling {
  checkOptions('sampling', options, SAMPLING_OPTIONS);
  const {
    temperature = 1,
    topK = Number.POSITIVE_INFINITY,
    topP = 1,
    minP = 0,
    seed = DEFAULT_SEED,
  } = options;
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, topLogprobs = 0 } = options;
  const { maxTokens = Number.POSITIVE_INFINITY, stop = [], stopTokens = [], logitBias = {} } = options;
  checkChoice(temperature, topK, topP);
  checkNumber('minP', 'a number in [0, 1]', minP, minP >= 0 && minP <= 1);
  checkNumber(
    'repetitionPenalty',
    'a finite number > 0',
    repetitionPenalty,
    finite(repetitionPenalty) && repetitionPenalty > 0,
  );
  checkNumber('presencePenalty', 'a finite number', presencePenalty, finite(presencePenalty));
  checkNumber('frequencyPenalty', 'a finite number', frequencyPenalty, finite(frequencyPenalty));
  checkNumber(
    'topLogprobs',
    `an integer in [0, ${vocabSize}]`,
    topLogprobs,
    isCount(topLogprobs) && topLogprobs <= vocabSize,
  );
  checkNumber(
    'maxTokens',
    'an integer >= 0',
    maxTokens,
    isCount(maxTokens) || maxTokens === Number.POSITIVE_INFINITY,
  );
  const stops = typeof stop === 'string' ? [stop] : stop;
  checkThat('stop', 'a text or an array of them', stop, Array.isArray(stops) && stops.every(isText));
  if (stops.includes('')) throw new RangeError("stop must be texts that are not empty, got ''");
  checkThat('stopTokens', 'an array', stopTokens, Array.isArray(stopTokens));
  for (const token of stopTokens) checkToken('stopTokens', token, vocabSize);
  return {
    ...{ temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty, seed },
    ...{ topLogprobs, maxTokens, stop: stops, stopTokens, logitBias: biasesOf(logitBias, vocabSize) },
  };
}

/** @throws TypeError or RangeError unless the three are in range. */
export function checkChoice(temperature: number, topK: number, topP: number): void {
  checkNumber('temperature', 'a finite number >= 0', temperature, finite(temperature) && temperature >= 0);
  checkNumber(
    'topK',
    'an integer >= 1',
    topK,
    topK === Number.POSITIVE_INFINITY || (isCount(topK) && topK >= 1),
  );
  checkNumber('topP', 'in (0, 1]', topP, topP > 0 && topP <= 1);
}

function biasesOf(bias: NonNullable<SamplingOptions['logitBias']>, vocabSize: number): Map<number, number> {
  checkThat('logitBias', 'an object or a Map', bias, typeof bias === 'object' && bias !== null);
  const entries = bias instanceof Map ? [...bias] : Object.entries(bias);
  return new Map(
    entries.map(([key, value]) => {
      checkToken('logitBias: a key', Number(key), vocabSize);
      checkNumber('logitBias: a value', 'a number below Infinity', value, value < Number.POSITIVE_INFINITY);
      return [Number(key), value];
    }),
  );
}

const finite = Number.isFinite;
const isText = (value: unknown): value is string => typeof value === 'string';
const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;

function checkToken(what: string, token: number, vocabSize: number): void {
  checkNumber(what, `an integer in [0, ${vocabSize})`, token, isCount(token) && token < vocabSize);
}

function checkNumber(what: string, must: string, value: unknown, holds: boolean): void {
  checkThat(what, must, value, typeof value === 'number');
  if (!holds) throw new RangeError(`${what} must be ${must}, got ${String(value)}`);
}

function checkThat(what: string, must: string, value: unknown, holds: boolean): void {
  if (!holds) throw new TypeError(`${what} must be ${must}, got ${String(value)}`);
}
