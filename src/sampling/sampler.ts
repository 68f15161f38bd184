import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkIds, checkInteger, checkOptions } from '../base/checks';
import { Lcg64 } from '../base/random';
import { Constraint, type TokenVocabulary } from './constraints/constraint';
import { type ConstraintSource, constraintOf } from './constraints/options';
import { type ResolvedSampling, resolveSampling, type SamplingOptions } from './options';
import { scratchLogits } from './scratch';

export interface SamplerSetup {
  /**
   * Number of logits, from the first on, that may be chosen: the tokenizer's vocabulary, which may be less than the
   * model's.
   */
  vocabSize: number;
  /**
   * Tokens that end the text: they aren't chosen before `minTokens`, nor where a constraint says that the text may not end, as
   * `stopTokens` aren't. Default: none.
   */
  endTokens?: readonly number[] | undefined;
  /** The kernels that compute. Default: the process's backend. */
  kernels?: Kernels | undefined;
  /** The bytes of the tokens, which `grammar`, `jsonSchema`, `regex` and `choice` need. */
  vocabulary?: TokenVocabulary | undefined;
}

/** The least number above 0 of float32. */
const LEAST_TEMPERATURE = 2 ** -149;
const MOST_TOP_K = 2 ** 31 - 1;
/** The index of the only row. */
const ROW = new Int32Array(1);

/** A chosen token. The object and its arrays belong to the sampler and change with the next choice. */
export interface SampledToken {
  token: number;
  /** Natural logarithm of the model's probability, softmax(logits), before options change it. */
  logprob: number;
  /** The `topLogprobs` most probable tokens by the model, best first. */
  readonly top: { readonly tokens: Int32Array; readonly logprobs: Float32Array };
}

/**
 * Chooses the tokens of one sequence. It holds the options, the generator and the tokens so far. A choice allocates nothing,
 * but with a constraint little.
 */
export class Sampler {
  readonly options: ResolvedSampling;
  readonly vocabSize: number;
  readonly kernels: Kernels;
  /** The generator of this sequence; each draw takes one number. */
  readonly rng: Lcg64;
  readonly #result: SampledToken;
  readonly #biasTokens: Int32Array;
  readonly #biases: Float64Array;
  /** The tokens so far; null without penalties, which alone need them. */
  readonly #history: History | null;
  /** The tokens that aren't chosen before `minTokens`. */
  readonly #ends: readonly number[];
  #made = 0;
  readonly #vocabulary: TokenVocabulary | undefined;
  /** Tokens that end the text where a constraint lets it end. */
  readonly #constraintEnds: readonly number[];
  #constraint: Constraint | null;
  /** Arguments of the kernel that draws: temperature, topP, minP; topK, random bits; the drawn token. */
  readonly #settings: Float32Array;
  readonly #choices: Int32Array;
  readonly #drawn = new Int32Array(1);
  /** A draw of RowDraws for the next choice: -1 where no logit could be drawn, null for none. */
  #foreseen: number | null = null;
  readonly #target = new Int32Array(1);
  readonly #loss = new Float32Array(1);

  /**
   * @throws TypeError or RangeError for an option out of range, SgemoeError SGEMOE_CONSTRAINT_INVALID or
   * SGEMOE_CONSTRAINT_LIMIT for a constraint that can't be followed.
   */
  constructor(options: SamplingOptions, setup: SamplerSetup) {
    checkOptions('Sampler', setup, ['vocabSize', 'endTokens', 'kernels', 'vocabulary']);
    checkInteger('Sampler: vocabSize', setup.vocabSize, 1);
    this.vocabSize = setup.vocabSize;
    this.options = resolveSampling(options, setup.vocabSize);
    this.kernels = setup.kernels ?? getKernels();
    const { seed, logitBias, topLogprobs, repetitionPenalty, presencePenalty, frequencyPenalty } =
      this.options;
    this.rng = new Lcg64(seed);
    const { temperature, topP, minP, topK } = this.options;
    // A temperature that float32 rounds to 0 would be the mode of the largest.
    const least = temperature > 0 ? LEAST_TEMPERATURE : 0;
    this.#settings = Float32Array.of(Math.max(least, temperature), topP, minP);
    this.#choices = Int32Array.of(Math.min(topK, MOST_TOP_K), 0);
    this.#biasTokens = Int32Array.from(logitBias.keys());
    this.#biases = Float64Array.from(logitBias.values());
    const isPlain = repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0;
    this.#history = isPlain ? null : new History(this.vocabSize);
    const { vocabulary, endTokens = [] } = setup;
    this.#vocabulary = vocabulary;
    this.#constraintEnds = [...endTokens, ...this.options.stopTokens];
    const source = constraintOf(this.options);
    this.#constraint = source && this.#constraintBy(source);
    const top = { tokens: new Int32Array(topLogprobs), logprobs: new Float32Array(topLogprobs) };
    this.#result = { token: 0, logprob: 0, top };
    this.#ends = this.#constraintEnds.filter((token) => token < setup.vocabSize);
  }

  /** Takes the tokens of the prompt, which `repetitionPenalty` counts too. */
  acceptPrompt(tokens: ArrayLike<number>): void {
    if (this.#history === null) return;
    checkIds('acceptPrompt', tokens, Number.MAX_SAFE_INTEGER);
    for (let i = 0; i < tokens.length; i++) this.#history.see(tokens[i]);
  }

  /**
   * Chooses the next token from logits [at, at + vocabSize), and counts it as generated.
   * @throws RangeError if no logit is a number above -Infinity; SgemoeError SGEMOE_CONSTRAINT_STUCK or
   * SGEMOE_CONSTRAINT_LIMIT if a constraint leaves no token, or can't be followed.
   */
  next(logits: Float32Array, at = 0): SampledToken {
    const token = this.choose(logits, at);
    this.#result.token = token;
    this.#tellLogprobs(logits, at, token);
    return this.#result;
  }

  /** Whether a constraint is fulfilled and nothing can follow, so that the text has ended; false without a constraint. */
  get ended(): boolean {
    return this.#constraint?.ended ?? false;
  }

  /**
   * Holds the tokens to come to another constraint, or to none. @param begun bytes of its text that were chosen already.
   * @returns whether they fit; if not, nothing changes. @throws as the constructor.
   */
  constrain(source: ConstraintSource | null, begun?: Uint8Array): boolean {
    const constraint = source && this.#constraintBy(source);
    if (begun !== undefined && constraint?.begin(begun) === false) return false;
    this.#constraint = constraint;
    return true;
  }

  /**
   * The log-probabilities of a token that others chose, such as one of the prompt: `logprob` is -Infinity for one beyond the
   * vocabulary. Nothing is counted.
   */
  score(logits: Float32Array, at: number, token: number): SampledToken {
    this.#result.token = token;
    const isKnown = token < this.vocabSize;
    this.#tellLogprobs(logits, at, isKnown ? token : 0);
    if (!isKnown) this.#result.logprob = Number.NEGATIVE_INFINITY;
    return this.#result;
  }

  /** The last result of `next` or `score`. */
  get last(): SampledToken {
    return this.#result;
  }

  /**
   * Whether the next choice depends on the logits alone: no bias, penalty or constraint changes them, and no end must wait.
   * @internal
   */
  get isPlain(): boolean {
    const isUnchanged = this.#history === null && this.#biases.length === 0 && this.#constraint === null;
    return isUnchanged && !this.#mustGoOn;
  }

  /**
   * Writes the arguments of the next choice into row r of those of `sampleRows`, which takes the generator's next number.
   * @internal
   */
  prepareDraw(settings: Float32Array, choices: Int32Array, r: number): void {
    for (let i = 0; i < 3; i++) settings[3 * r + i] = this.#settings[i];
    choices[2 * r] = this.#choices[0];
    choices[2 * r + 1] = this.#randomBits();
  }

  /** Makes what the kernel drew with the arguments of `prepareDraw` the next choice; -1 becomes its error. @internal */
  foresee(token: number): void {
    this.#foreseen = token;
  }

  /** Chooses the next token as a SamplingStrategy does. */
  pickToken(logits: Float32Array): number {
    return this.next(logits).token;
  }

  /** Chooses as `next` does, without computing the log-probability. */
  choose(logits: ArrayLike<number>, at = 0): number {
    const token = this.#draw(logits, at);
    this.#history?.count(token);
    this.#made++;
    this.#constraint?.accept(token);
    return token;
  }

  get #mustGoOn(): boolean {
    return this.#ends.length > 0 && this.#made < this.options.minTokens;
  }

  /** Random bits of the next draw; none are taken where nothing is random. */
  #randomBits(): number {
    return this.options.temperature > 0 ? this.rng.nextUint32() : 0;
  }

  #draw(logits: ArrayLike<number>, at: number): number {
    const foreseen = this.#foreseen;
    this.#foreseen = null;
    if (foreseen !== null) return drawable(foreseen);
    const n = Math.min(this.vocabSize, logits.length - at);
    if (this.isPlain && logits instanceof Float32Array) return this.#drawFrom(logits, at, n);
    const adjusted = this.#copy(logits, at, n);
    this.#adjust(adjusted, n);
    if (this.#mustGoOn) for (const token of this.#ends) adjusted[token] = Number.NEGATIVE_INFINITY;
    return this.#drawFrom(adjusted, 0, n);
  }

  #drawFrom(logits: Float32Array, at: number, n: number): number {
    this.#choices[1] = this.#randomBits();
    this.kernels.sampleRows(logits, at, n, this.#settings, 0, this.#choices, 0, this.#drawn, 0, 1, n);
    return drawable(this.#drawn[0]);
  }

  #constraintBy(source: ConstraintSource): Constraint {
    if (this.#vocabulary !== undefined) return new Constraint(source, this.#vocabulary, this.#constraintEnds);
    throw new TypeError(`Sampler: ${source.kind} needs a vocabulary: the bytes of the tokens`);
  }

  #copy(logits: ArrayLike<number>, at: number, n: number): Float32Array {
    const copy = scratchLogits(this.kernels, n);
    // A kernel, since `set` needs a view, which is garbage.
    if (logits instanceof Float32Array) this.kernels.gatherRows(logits, at, 1, ROW, 0, copy, 0, 1, n);
    else for (let i = 0; i < n; i++) copy[i] = logits[at + i];
    return copy;
  }

  /** Adds biases and penalties, and forbids what the constraint does. */
  #adjust(logits: Float32Array, n: number): void {
    for (let i = 0; i < this.#biases.length; i++) logits[this.#biasTokens[i]] += this.#biases[i];
    this.#history?.penalise(logits, this.options);
    this.#constraint?.apply(logits, n);
  }

  #tellLogprobs(logits: Float32Array, at: number, token: number): void {
    const { tokens, logprobs } = this.#result.top;
    this.#target[0] = token;
    // The log-probability of a token is the negative cross-entropy with this token as the target.
    const { kernels: k, vocabSize: n } = this;
    const loss = k.crossEntropy(logits, at, this.#target, 0, this.#loss, 0, 1, n, -1, 1, false);
    this.#result.logprob = -loss;
    if (tokens.length === 0) return;
    findLargest(logits, at, this.vocabSize, tokens);
    for (let i = 0; i < tokens.length; i++) logprobs[i] = logits[at + tokens[i]] - logits[at + token] - loss;
  }
}

function drawable(token: number): number {
  if (token >= 0) return token;
  throw new RangeError('pickToken: logits hold no number above -Infinity');
}

/** The tokens of a sequence, for penalties. */
class History {
  /** How often each token was generated. */
  readonly #counts: Int32Array;
  readonly #isSeen: Uint8Array;
  /** Different tokens of the prompt and the generated text. */
  readonly #seen: Int32Array;
  #size = 0;

  constructor(vocabSize: number) {
    this.#counts = new Int32Array(vocabSize);
    this.#isSeen = new Uint8Array(vocabSize);
    this.#seen = new Int32Array(vocabSize);
  }

  /** Records a token. Tokens beyond the vocabulary are never chosen, so they are ignored. */
  see(token: number): void {
    if (token >= this.#isSeen.length || this.#isSeen[token] === 1) return;
    this.#isSeen[token] = 1;
    this.#seen[this.#size++] = token;
  }

  count(token: number): void {
    this.see(token);
    this.#counts[token]++;
  }

  penalise(logits: Float32Array, options: ResolvedSampling): void {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = options;
    for (let i = 0; i < this.#size; i++) {
      const token = this.#seen[i];
      const count = this.#counts[token];
      const logit = logits[token];
      const repeated = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      logits[token] = repeated - frequencyPenalty * count - (count > 0 ? presencePenalty : 0);
    }
  }
}

/** The tokens of the largest logits, best first; ties: the lower index; NaN counts as the lowest. */
function findLargest(logits: Float32Array, at: number, n: number, tokens: Int32Array): void {
  let found = 0;
  for (let token = 0; token < n; token++) {
    const logit = logits[at + token];
    if (found === tokens.length && !isAbove(logit, logits[at + tokens[found - 1]])) continue;
    let place = found < tokens.length ? found++ : found - 1;
    for (; place > 0 && isAbove(logit, logits[at + tokens[place - 1]]); place--)
      tokens[place] = tokens[place - 1];
    tokens[place] = token;
  }
}

function isAbove(a: number, b: number): boolean {
  return a > b || (Number.isNaN(b) && !Number.isNaN(a));
}
