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
  /** Tokens that may be drawn, by index. */
  #candidates = new Int32Array(0);
  /** The candidates as a selection shuffles them. */
  #order = new Int32Array(0);

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
      this.#order = new Int32Array(logits.length);
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

  /** Keeps the k most probable candidates. */
  #keepTopK(count: number): number {
    const target = this.topK - 1;
    let low = 0;
    let high = this.#copyOrder(count) - 1;
    while (low < high) {
      const border = this.#partition(low, high);
      if (border === target) break;
      if (border < target) low = border + 1;
      else high = border - 1;
    }
    return this.#keepUpTo(this.#order[target], count);
  }

  /** Keeps the most probable candidates whose mass reaches topP: a selection by mass, O(n) like the one by rank. */
  #keepNucleus(count: number): number {
    const probs = this.#probs;
    const order = this.#order;
    let low = 0;
    let high = this.#copyOrder(count) - 1;
    let target = this.topP * this.#mass(low, high);
    while (low < high) {
      const border = this.#partition(low, high);
      const mass = this.#mass(low, border);
      if (mass - probs[order[border]] >= target) high = border - 1;
      else if (mass >= target) return this.#keepUpTo(order[border], count);
      else {
        target -= mass;
        low = border + 1;
      }
    }
    // Rounding may leave a rest of the target beyond the last candidate.
    return this.#keepUpTo(order[Math.min(low, count - 1)], count);
  }

  /** Drops the candidates that come after `last`, the others stay in the order of their index. */
  #keepUpTo(last: number, count: number): number {
    const candidates = this.#candidates;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (!this.#before(last, candidates[i])) candidates[kept++] = candidates[i];
    }
    return kept;
  }

  #copyOrder(count: number): number {
    for (let i = 0; i < count; i++) this.#order[i] = this.#candidates[i];
    return count;
  }

  /** Sum of the probabilities of order[low ..= high]. */
  #mass(low: number, high: number): number {
    let sum = 0;
    for (let i = low; i <= high; i++) sum += this.#probs[this.#order[i]];
    return sum;
  }

  /** Puts one of order[low ..= high] in its place, what comes before it on its left; returns the place. */
  #partition(low: number, high: number): number {
    const order = this.#order;
    swap(order, (low + high) >>> 1, high);
    const pivot = order[high];
    let border = low;
    for (let i = low; i < high; i++) {
      if (this.#before(order[i], pivot)) swap(order, i, border++);
    }
    swap(order, border, high);
    return border;
  }

  /** More probable first; ties: lower index first. A total order, so selections are unambiguous. */
  #before(a: number, b: number): boolean {
    const probs = this.#probs;
    return probs[a] > probs[b] || (probs[a] === probs[b] && a < b);
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
    checkOptions('TemperatureSampling', options, ['seed']);
    super({ ...options, temperature });
  }
}

/** The k most probable tokens. */
export class TopKSampling extends RandomSampling {
  constructor(topK: number, options: { temperature?: number; seed?: number | bigint } = {}) {
    checkOptions('TopKSampling', options, ['temperature', 'seed']);
    super({ ...options, topK });
  }
}

/** The smallest set of most probable tokens whose probability reaches p. */
export class TopPSampling extends RandomSampling {
  constructor(topP: number, options: { temperature?: number; seed?: number | bigint } = {}) {
    checkOptions('TopPSampling', options, ['temperature', 'seed']);
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
  if (typeof prompt !== 'object' || typeof prompt?.length !== 'number') {
    throw new TypeError('generate: prompt must be an array of token ids; a tokenizer turns text into them');
  }
  if (typeof strategy?.pickToken !== 'function') {
    throw new TypeError('generate: strategy must have a pickToken method, such as new GreedySampling()');
  }
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
