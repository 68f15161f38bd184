import { invalid, type Settings, show } from './settings';
import {
  byteTokens,
  checkToken,
  idsOfBytes,
  longestOf,
  MOST_TOKENS,
  type Model,
  noToken,
} from './vocabulary';

/** How much less likely an unknown character is than the least likely token, as a logarithm (SentencePiece). */
const UNKNOWN_PENALTY = 10;

/** The best segmentation up to a place in a word: start and id of its last token, and the sum of scores. */
interface Step {
  start: number;
  id: number | null;
  score: number;
}

/**
 * Unigram (Kudo 2018): dynamic programming finds the segmentation of a word with the highest sum of scores; among equal
 * ones the first found wins. Consecutive unknown characters are one token.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID for invalid settings.
 */
export function readUnigram(settings: Settings): Model {
  const pieces = readPieces(settings);
  const vocab = new Map(pieces.map(({ token }, id) => [token, id]));
  const unknown = settings.optionalInteger('unk_id', 0, pieces.length - 1);
  const bytes = settings.boolean('byte_fallback', false) ? byteTokens(vocab) : [];
  const lowest = pieces.reduce((least, { score }) => Math.min(least, score), Number.POSITIVE_INFINITY);
  const scores = pieces.map(({ score }) => score);
  const lattice = new Lattice(vocab, scores, unknown, lowest - UNKNOWN_PENALTY);
  const idsOf = (text: string) => {
    const id = vocab.get(text);
    if (id !== undefined) return [id];
    return idsOfBytes(text, bytes) ?? [unknown ?? noToken(text)];
  };
  return {
    vocab,
    tokens: pieces.map(({ token }) => token),
    encodeWord: (word) => lattice.cut(word).flatMap(idsOf),
  };
}

function readPieces(settings: Settings): { token: string; score: number }[] {
  const list = settings.array('vocab');
  if (list.length > MOST_TOKENS) throw invalid(`it has ${list.length} tokens, more than ${MOST_TOKENS}`);
  return list.map((entry, i) => {
    const [token, score] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof token === 'string' && typeof score === 'number') return { token: checkToken(token), score };
    throw invalid(`"model.vocab[${i}]" must be a text and a score, got ${show(entry)}`);
  });
}

class Lattice {
  readonly #longest: number;

  constructor(
    private readonly vocab: ReadonlyMap<string, number>,
    private readonly scores: readonly number[],
    private readonly unknown: number | null,
    private readonly unknownScore: number,
  ) {
    this.#longest = longestOf(vocab);
  }

  /** The texts of the best segmentation's tokens. */
  cut(word: string): string[] {
    const texts: string[] = [];
    let unknown = '';
    const steps = this.#bestSteps(word);
    for (let end = word.length; end > 0; end = steps[end]!.start) {
      const { start, id } = steps[end]!;
      const text = word.slice(start, end);
      if (id !== null && id === this.unknown) {
        unknown = text + unknown;
        continue;
      }
      if (unknown !== '') texts.push(unknown);
      unknown = '';
      texts.push(text);
    }
    if (unknown !== '') texts.push(unknown);
    return texts.reverse();
  }

  /** The best steps by place in the word; null inside a character. */
  #bestSteps(word: string): (Step | null)[] {
    const steps = new Array<Step | null>(word.length + 1).fill(null);
    steps[0] = { start: 0, id: null, score: 0 };
    const offer = (end: number, step: Step) => {
      const best = steps[end];
      if (best === null || step.score > best.score) steps[end] = step;
    };
    for (let start = 0; start < word.length; ) {
      const before = steps[start]!.score;
      const length = word.codePointAt(start)! > 0xffff ? 2 : 1;
      let single = false;
      for (let end = start + length; end <= Math.min(word.length, start + this.#longest); end++) {
        const id = this.vocab.get(word.slice(start, end));
        if (id === undefined) continue;
        offer(end, { start, id, score: before + this.scores[id] });
        if (end - start === length) single = true;
      }
      if (!single) {
        const id = this.unknown ?? noToken(word.slice(start, start + length));
        offer(start + length, { start, id, score: before + this.unknownScore });
      }
      start += length;
    }
    return steps;
  }
}
