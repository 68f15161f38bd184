/**
 * The conditional entropy, in nats per token, that a bigram model counted on `train` leaves on `validation`:
 * H = -1/n sum_i log p(x_i | x_{i-1}) over the n = validation.length - 1 pairs of neighbours. A model that
 * only sees the previous token can hardly do better, so a loss below it shows the use of more context.
 *
 * Smoothing is Witten-Bell's (1991, method C), interpolated with the unigrams, because add-one would make an
 * easy opponent: p(b|a) = (c(a,b) + t(a) p(b)) / (c(a) + t(a)), with c(a) the pairs that start with a, t(a)
 * the number of different successors of a, and p(b) = (c(b) + 1) / (N + vocabSize) over the N tokens of
 * `train`; an a without successors gives p(b).
 *
 * @throws RangeError when `validation` has fewer than 2 tokens or a token is outside [0, vocabSize).
 */
export function bigramConditionalEntropy(
  train: ArrayLike<number>,
  validation: ArrayLike<number>,
  vocabSize: number,
): number {
  if (validation.length < 2) {
    throw new RangeError(`validation must have at least 2 tokens, got ${validation.length}`);
  }
  checkTokens('train', train, vocabSize);
  checkTokens('validation', validation, vocabSize);
  const model = countBigrams(train, vocabSize);
  let sumLogProb = 0;
  for (let i = 1; i < validation.length; i++) {
    sumLogProb += Math.log(bigramProbability(model, validation[i - 1], validation[i]));
  }
  return -sumLogProb / (validation.length - 1);
}

interface BigramModel {
  vocabSize: number;
  tokens: number;
  unigramCounts: Float64Array;
  /** c(a) [vocabSize]. It differs from the unigram count by the last token of the text, which starts no pair. */
  contextCounts: Float64Array;
  /** t(a). */
  successorCounts: Float64Array;
  /** c(a,b) at a * vocabSize + b. */
  pairCounts: Map<number, number>;
}

function countBigrams(train: ArrayLike<number>, vocabSize: number): BigramModel {
  const unigramCounts = new Float64Array(vocabSize);
  const contextCounts = new Float64Array(vocabSize);
  const successorCounts = new Float64Array(vocabSize);
  const pairCounts = new Map<number, number>();
  for (let i = 0; i < train.length; i++) {
    unigramCounts[train[i]]++;
    if (i === 0) continue;
    const pair = train[i - 1] * vocabSize + train[i];
    const count = pairCounts.get(pair) ?? 0;
    pairCounts.set(pair, count + 1);
    contextCounts[train[i - 1]]++;
    if (count === 0) successorCounts[train[i - 1]]++;
  }
  return { vocabSize, tokens: train.length, unigramCounts, contextCounts, successorCounts, pairCounts };
}

function bigramProbability(model: BigramModel, previous: number, next: number): number {
  const unigram = (model.unigramCounts[next] + 1) / (model.tokens + model.vocabSize);
  const contexts = model.contextCounts[previous];
  if (contexts === 0) return unigram;
  const successors = model.successorCounts[previous];
  const pairs = model.pairCounts.get(previous * model.vocabSize + next) ?? 0;
  return (pairs + successors * unigram) / (contexts + successors);
}

function checkTokens(name: string, tokens: ArrayLike<number>, vocabSize: number): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i];
    if (Number.isInteger(token) && token >= 0 && token < vocabSize) continue;
    throw new RangeError(`${name}[${i}] must be an integer in [0, ${vocabSize}), got ${String(token)}`);
  }
}
