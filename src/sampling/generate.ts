import { checkInteger, checkOptions } from '../base/checks';
import { checkPrecision, type Precision } from '../base/precision';
import type { Lcg64 } from '../base/random';
import type { KvCacheDtype } from '../base/storageTypes';
import type { NextTokenModel, SamplingStrategy } from './nextToken';
import type { SamplingOptions } from './options';
import { MOST_DRAFTED } from './promptLookup';
import { Sampler } from './sampler';
import { canSpeculate, speculateTokens } from './speculate';

/** The strategies below take all logits, however many there are. */
const ANY_VOCABULARY = { vocabSize: Number.MAX_SAFE_INTEGER };

/** Chooses the largest logit; ties go to the lower index. NaN is never chosen. */
export class GreedySampling implements SamplingStrategy {
  readonly #sampler = new Sampler({ temperature: 0 }, ANY_VOCABULARY);

  pickToken(logits: ArrayLike<number>): number {
    return this.#sampler.choose(logits);
  }
}

export type RandomSamplingOptions = Pick<SamplingOptions, 'temperature' | 'topK' | 'topP' | 'seed'>;

/**
 * Draws from softmax(logits / temperature), restricted first to the topK most probable tokens, then to the nucleus of
 * mass topP among them (Holtzman et al. 2020). Ties at a border keep the lower index. It uses a Sampler, which has more
 * options.
 */
export class RandomSampling implements SamplingStrategy {
  readonly #sampler: Sampler;

  constructor(options: RandomSamplingOptions = {}) {
    checkOptions('RandomSampling', options, ['temperature', 'topK', 'topP', 'seed']);
    this.#sampler = new Sampler(options, ANY_VOCABULARY);
  }

  get temperature(): number {
    return this.#sampler.options.temperature;
  }

  get topK(): number {
    return this.#sampler.options.topK;
  }

  get topP(): number {
    return this.#sampler.options.topP;
  }

  get rng(): Lcg64 {
    return this.#sampler.rng;
  }

  pickToken(logits: ArrayLike<number>): number {
    return this.#sampler.choose(logits);
  }
}

/** Draws from softmax(logits / temperature). */
export class TemperatureSampling extends RandomSampling {
  constructor(temperature: number, options: Pick<SamplingOptions, 'seed'> = {}) {
    checkOptions('TemperatureSampling', options, ['seed']);
    super({ ...options, temperature });
  }
}

/** Draws from the k most probable tokens. */
export class TopKSampling extends RandomSampling {
  constructor(topK: number, options: Pick<SamplingOptions, 'temperature' | 'seed'> = {}) {
    checkOptions('TopKSampling', options, ['temperature', 'seed']);
    super({ ...options, topK });
  }
}

/** Draws from the smallest set of most probable tokens whose probability reaches p. */
export class TopPSampling extends RandomSampling {
  constructor(topP: number, options: Pick<SamplingOptions, 'temperature' | 'seed'> = {}) {
    checkOptions('TopPSampling', options, ['temperature', 'seed']);
    super({ ...options, topP });
  }
}

export interface GenerateOptions {
  /** Whether texts longer than maxSeqLen use their last maxSeqLen tokens instead of throwing. Default false. */
  slidingWindow?: boolean | undefined;
  /** Tokens that end the text and aren't returned; `[]` means none. Default: the model's `endTokens`. */
  endTokens?: readonly number[] | undefined;
  /** How keys and values are kept, as in DecoderOptions. Default 'float32'. */
  kvCacheDtype?: KvCacheDtype | undefined;
  /** What products of the prompt multiply, as in DecoderOptions; so those of a sliding window's tokens. Default 'float32'. */
  precision?: Precision | undefined;
  /**
   * The most tokens that are guessed at once from what followed the same tokens earlier in the text, an integer in [0, 128]. The
   * chosen tokens are the same, except for the rounding of steps with more rows. It pays where answers repeat their prompt.
   * Default 0: none.
   */
  speculateTokens?: number | undefined;
}

/**
 * Continues `prompt` to `maxLen` tokens in total (prompt included) or to an end token, and returns all tokens without the
 * end token. A prompt of at least maxLen tokens is returned unchanged.
 * @throws RangeError for an empty prompt, or maxLen > maxSeqLen without slidingWindow.
 */
export function generate(
  model: NextTokenModel,
  prompt: ArrayLike<number>,
  maxLen: number,
  strategy: SamplingStrategy = new GreedySampling(),
  options: GenerateOptions = {},
): number[] {
  const tokens = Array.from(prompt);
  for (const token of generateTokens(model, prompt, maxLen, strategy, options)) tokens.push(token);
  return tokens;
}

/** Generates as `generate` does, but yields one new token at a time. The model's weights must not change meanwhile. */
export function* generateTokens(
  model: NextTokenModel,
  prompt: ArrayLike<number>,
  maxLen: number,
  strategy: SamplingStrategy = new GreedySampling(),
  options: GenerateOptions = {},
): Generator<number, void, void> {
  checkGenerate(model, prompt, maxLen, strategy, options);
  strategy.acceptPrompt?.(prompt);
  const { maxSeqLen, vocabSize } = model;
  const ends = new Set(options.endTokens ?? model.endTokens);
  const tokens = Array.from(prompt);
  const logits = new Float32Array(vocabSize);
  const fits = tokens.length < maxLen && tokens.length <= maxSeqLen;
  const { speculateTokens: most = 0, kvCacheDtype, precision } = options;
  const room = Math.min(maxLen, maxSeqLen);
  const sequence = fits ? model.openSequence?.(room, kvCacheDtype, precision) : undefined;
  let computed = 0;
  while (tokens.length < maxLen && !strategy.ended) {
    if (tokens.length > maxSeqLen) model.nextTokenLogits(tokens.slice(-maxSeqLen), logits, precision);
    else if (sequence) sequence.append(tokens, computed, logits);
    else model.nextTokenLogits(tokens, logits, precision);
    computed = tokens.length;
    const token = strategy.pickToken(logits);
    if (ends.has(token)) return;
    tokens.push(token);
    yield token;
    if (most === 0 || !canSpeculate(sequence) || tokens.length > maxSeqLen) continue;
    const setup = { vocabSize, ends, most };
    if (yield* speculateTokens(sequence, tokens, room, strategy, setup)) return;
    computed = tokens.length - 1;
  }
}

const OPTIONS: readonly (keyof GenerateOptions)[] = [
  'slidingWindow',
  'endTokens',
  'kvCacheDtype',
  'precision',
  'speculateTokens',
];

function checkGenerate(
  model: NextTokenModel,
  prompt: ArrayLike<number>,
  maxLen: number,
  strategy: SamplingStrategy,
  options: GenerateOptions,
): void {
  checkOptions('generate', options, OPTIONS);
  checkPrecision('generate', options.precision);
  const { speculateTokens: most = 0 } = options;
  checkInteger('generate: speculateTokens', most, 0);
  if (most > MOST_DRAFTED) {
    throw new RangeError(`generate: speculateTokens must be at most ${MOST_DRAFTED}, got ${most}`);
  }
  if (options.endTokens !== undefined && !Array.isArray(options.endTokens))
    throw new TypeError(
      `generate: endTokens must be an array of token ids, got ${String(options.endTokens)}`,
    );
  if (typeof prompt !== 'object' || typeof prompt?.length !== 'number') {
    throw new TypeError('generate: prompt must be an array of token ids; a tokenizer turns text into them');
  }
  if (typeof strategy?.pickToken !== 'function') {
    throw new TypeError('generate: strategy must have a pickToken method, such as new GreedySampling()');
  }
  const { maxSeqLen } = model;
  if (prompt.length === 0) throw new RangeError('generate: prompt must have at least one token, got none');
  if (!Number.isInteger(maxLen) || maxLen < 0) {
    throw new RangeError(`generate: maxLen must be an integer >= 0, got ${maxLen}`);
  }
  if (Math.max(maxLen, prompt.length) > maxSeqLen && !options.slidingWindow) {
    throw new RangeError(
      `generate: ${Math.max(maxLen, prompt.length)} tokens exceed maxSeqLen (${maxSeqLen}); ` +
        'pass { slidingWindow: true } to look at the last maxSeqLen tokens only',
    );
  }
}
