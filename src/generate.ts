import { checkOptions } from './checks';
import { DEFAULT_SEED, Lcg64 } from './random';

/** What generation needs of a model. */
export interface NextTokenModel {
  readonly vocabSize: number;
  readonly maxSeqLen: number;
  /** Logits [vocabSize] of the token after `tokens`, written to `out` and returned. */
  nextTokenLogits(tokens: ArrayLike<number>, out: Float32Array): Float32Array;
}

/** Chooses the next token from its logits. */
export interface SamplingStrategy {
  /** @throws RangeError when no logit is finite. */
  pickToken(logits: ArrayLike<number>): number;
}

/** The largest logit; ties: the lower index. NaN is never chosen. */
export class GreedySampling implements SamplingStrategy {
  pickToken(logits: ArrayLike<number>): number {
    return argmax(logits);
  }
}

export interface RandomSamplingOptions {
  /** Logits are divided by it, > 0: below 1 sharpens, above 1 flattens. 0 means greedy. Default 1. */
  temperature?: number;
  /** Keeps the k most probable tokens, an integer >= 1. Default: all. */
  topK?: number;
  /** Keeps the smallest set of most probable tokens whose probability reaches p, in (0, 1]. Default 1: all. */
  topP?: number;
  /** Start of the 64-bit generator; the same seed gives the same choices. Default 42. */
  seed?: number | bigint;
}

/**
 * Draws from softmax(logits / temperature), restricted first to the topK most probable tokens, then to the nucleus of
 * mass topP among them (Holtzman et al. 2020). Ties at a border keep the lower index.
 */
export class RandomSampling implements SamplingStrategy {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly rng: Lcg64;
  #probs = new Float64Array(0);
  #candidates = new Int32Array(0);

  constructor(options: RandomSamplingOptions = {}) {
    checkOptions('RandomSampling', options, ['temperature', 'topK', 'topP', 'seed']);
    const { temperature = 1, topK = Number.POSITIVE_INFINITY, topP = 1, seed = DEFAULT_SEED } = options;
    if (!(Number.isFinite(temperature) && temperature >= 0)) {
      throw new RangeError(`temperature must be a finite number >= 0, got ${temperature}`);
    }
    if (!(topK >= 1) || (Number.isFinite(topK) && !Number.isInteger(topK))) {
      throw new RangeError(`topK must be an integer >= 1, got ${topK}`);
    }
    if (!(topP > 0 && topP <= 1)) throw new RangeError(`topP must be in (0, 1], got ${topP}`);
    this.temperature = temperature;
    this.topK = topK;
    this.topP = topP;
    this.rng = new Lcg64(seed);
  }

  pickToken(logits: ArrayLike<number>): number {
    const best = argmax(logits);
    if (this.temperature === 0) return best;
    if (this.#probs.length < logits.length) {
      this.#probs = new Float64Array(logits.length);
      this.#candidates = new Int32Array(logits.length);
    }
    let count = this.#weigh(logits, logits[best]);
    if (this.topK < count) count = this.#keepTopK(count);
    if (this.topP < 1) count = this.#keepNucleus(count);
    return this.#draw(count);
  }

  /** Unnormalised probabilities of all tokens; the candidates are those above 0. */
  #weigh(logits: ArrayLike<number>, max: number): number {
    let count = 0;
    for (let i = 0; i < logits.length; i++) {
      const weight = logits[i] === max ? 1 : Math.exp((logits[i] - max) / this.temperature);
      this.#probs[i] = weight;
      if (weight > 0) this.#candidates[count++] = i;
    }
    return count;
  }

  /** Moves the k largest to the front: O(n) by partition, the border decided by index. */
  #keepTopK(count: number): number {
    const k = this.topK;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const border = this.#partition(low, high);
      if (border === k - 1) break;
      if (border < k) low = border + 1;
      else high = border - 1;
    }
    this.#candidates.subarray(0, k).sort((a, b) => a - b);
    return k;
  }

  #partition(low: number, high: number): number {
    const c = this.#candidates;
    swap(c, (low + high) >>> 1, high);
    const pivot = c[high];
    let border = low;
    for (let i = low; i < high; i++) {
      if (this.#before(c[i], pivot)) swap(c, i, border++);
    }
    swap(c, border, high);
    return border;
  }

  /** More probable first; ties: lower index first. A total order, so partitions are unambiguous. */
  #before(a: number, b: number): boolean {
    return this.#probs[a] > this.#probs[b] || (this.#probs[a] === this.#probs[b] && a < b);
  }

  #keepNucleus(count: number): number {
    const { topP } = this;
    const probs = this.#probs;
    let total = 0;
    for (let i = 0; i < count; i++) total += probs[this.#candidates[i]];
    // Tokens below (1-p)/count of the mass add up to less than 1-p: the nucleus is complete without them.
    const floor = ((1 - topP) / count) * total;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (probs[this.#candidates[i]] >= floor) this.#candidates[kept++] = this.#candidates[i];
    }
    this.#candidates.subarray(0, kept).sort((a, b) => (this.#before(a, b) ? -1 : 1));
    let mass = 0;
    for (let i = 0; i < kept; i++) {
      mass += probs[this.#candidates[i]];
      if (mass >= topP * total) return i + 1;
    }
    return kept;
  }

  #draw(count: number): number {
    let total = 0;
    for (let i = 0; i < count; i++) total += this.#probs[this.#candidates[i]];
    let left = this.rng.nextFloat() * total;
    for (let i = 0; i < count; i++) {
      left -= this.#probs[this.#candidates[i]];
      if (left < 0) return this.#candidates[i];
    }
    return this.#candidates[count - 1];
  }
}

/** softmax(logits / temperature). */
export class TemperatureSampling extends RandomSampling {
  constructor(temperature: number, options: { seed?: number | bigint } = {}) {
    super({ ...options, temperature });
  }
}

/** The k most probable tokens. */
export class TopKSampling extends RandomSampling {
  constructor(topK: number, options: { temperature?: number; seed?: number | bigint } = {}) {
    super({ ...options, topK });
  }
}

/** The smallest set of most probable tokens whose probability reaches p. */
export class TopPSampling extends RandomSampling {
  constructor(topP: number, options: { temperature?: number; seed?: number | bigint } = {}) {
    super({ ...options, topP });
  }
}

export interface GenerateOptions {
  /** Beyond maxSeqLen look at the last maxSeqLen tokens only, instead of throwing. Default false. */
  slidingWindow?: boolean;
}

/**
 * Continues `prompt` to `maxLen` tokens in total (prompt included) and returns them all. A prompt that is as long
 * already comes back as it is.
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

/** As `generate`, one new token at a time. */
export function* generateTokens(
  model: NextTokenModel,
  prompt: ArrayLike<number>,
  maxLen: number,
  strategy: SamplingStrategy = new GreedySampling(),
  options: GenerateOptions = {},
): Generator<number, void, void> {
  checkOptions('generate', options, ['slidingWindow']);
  const { maxSeqLen, vocabSize } = model;
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
  const tokens = Array.from(prompt);
  const logits = new Float32Array(vocabSize);
  while (tokens.length < maxLen) {
    const context = tokens.length > maxSeqLen ? tokens.slice(-maxSeqLen) : tokens;
    const token = strategy.pickToken(model.nextTokenLogits(context, logits));
    tokens.push(token);
    yield token;
  }
}

function argmax(logits: ArrayLike<number>): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    if (best < 0 ? logits[i] > Number.NEGATIVE_INFINITY : logits[i] > logits[best]) best = i;
  }
  if (best < 0) throw new RangeError('pickToken: logits hold no number above -Infinity');
  return best;
}

function swap(array: Int32Array, i: number, j: number): void {
  const kept = array[i];
  array[i] = array[j];
  array[j] = kept;
}
