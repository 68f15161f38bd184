import { BYTE_CHARACTERS } from '../../base/byteAlphabet';
import { checkInteger, checkOptions } from '../../base/checks';
import { PLAIN_BPE } from '../../checkpoint/plainBpe';
import { HuggingFaceTokenizer } from '../huggingFaceTokenizer';
import { cutPieces } from '../pieces';
import { plainToken, TokenFinder } from '../pipeline/addedTokens';
import { turns } from '../turns';
import { decodeUtf8, utf8Segments } from '../utf8';
import { MergeLearner, MOST_TOKENS } from './mergeLearner';
import { WORD_PATTERN, WordCounts, type WordCountsState } from './words';

export const END_OF_TEXT = '<|endoftext|>';

export interface BpeOptions {
  /** Size of the vocabulary, including special tokens and the 256 bytes: an integer in [256 + specialTokens, 2^24]. */
  vocabSize: number;
  /**
   * Tokens that text never merges into, distinct and not empty. They get the first ids; the first one ends a text. Default
   * ['<|endoftext|>'].
   */
  specialTokens?: readonly string[] | undefined;
  /** Smallest frequency of a pair that is merged, an integer >= 1; it may keep the vocabulary smaller. Default 2. */
  minFrequency?: number | undefined;
  /** Largest number of different words in memory, an integer >= 2; beyond it the rarest are dropped. Default 1,000,000. */
  maxDistinctWords?: number | undefined;
  /** Called with the state after each piece of text and now and then while merging. */
  onProgress?: ((progress: BpeProgress) => void) | undefined;
  /** Stops the training; the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
}

export type BpeProgress =
  | ({ phase: 'count' } & Readonly<WordCountsState>)
  | { phase: 'merge'; tokens: number; vocabSize: number };

/** A sequence of separate texts. */
export type Texts = Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

/**
 * Trains a byte-level BPE tokenizer (Sennrich et al. 2016; the byte alphabet and the words of GPT-2). All 256 bytes are
 * tokens, so that no text is unknown. Words never reach from one text to the next. Special tokens in a text, and bytes that
 * aren't UTF-8, don't count.
 *
 * Ids are given to special tokens, then to the 256 bytes in the order of their characters, then to merges. Among equally
 * frequent pairs the one with the lowest first id is merged, then the one with the lowest second id, so the same texts in
 * the same order give the same tokenizer on every machine. The vocabulary stays below `vocabSize` if no pair is left that
 * occurs `minFrequency` times.
 *
 * @throws RangeError, TypeError for options out of their range; the signal's reason.
 */
export async function trainBpe(texts: Texts, options: BpeOptions): Promise<HuggingFaceTokenizer> {
  const { vocabSize, specialTokens, minFrequency, maxDistinctWords, onProgress, signal } = complete(options);
  if (typeof texts === 'string' || texts instanceof Uint8Array) {
    throw new TypeError('trainBpe: texts must be an iterable of texts, such as [text]');
  }
  const pause = turns(signal);
  const counts = new WordCounts(maxDistinctWords);
  const special = new TokenFinder(specialTokens.map((content, id) => plainToken(id, content)));
  for await (const text of texts) {
    for (const piece of cutPieces(typeof text === 'string' ? Buffer.from(text, 'utf8') : text)) {
      countPiece(piece, counts, special);
      onProgress?.({ phase: 'count', ...counts.state });
      await pause();
    }
  }
  const learner = new MergeLearner(counts.entries(), specialTokens);
  while (learner.tokens.length < vocabSize && learner.mergeNext(minFrequency)) {
    if (await pause()) onProgress?.({ phase: 'merge', tokens: learner.tokens.length, vocabSize });
  }
  onProgress?.({ phase: 'merge', tokens: learner.tokens.length, vocabSize });
  return new HuggingFaceTokenizer(describe(learner, specialTokens), {
    tokenizerConfig: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      clean_up_tokenization_spaces: false,
      ...(specialTokens.length > 0 && { eos_token: specialTokens[0] }),
    },
  });
}

function countPiece(piece: Uint8Array, counts: WordCounts, special: TokenFinder): void {
  counts.state.bytes += piece.length;
  for (const segment of utf8Segments(piece)) {
    if (typeof segment === 'number') continue;
    for (const { text } of special.split(segment)) if (text !== null) counts.add(text);
  }
}

/** The content of tokenizer.json. */
function describe({ tokens, merges }: MergeLearner, specialTokens: readonly string[]): object {
  // The object has no prototype, so that '__proto__' is a token like any other.
  const vocab: Record<string, number> = Object.create(null);
  tokens.forEach((token, id) => {
    vocab[token] = id;
  });
  const byteLevel = { add_prefix_space: false, trim_offsets: true, use_regex: false };
  const words = { pattern: { Regex: WORD_PATTERN }, behavior: 'Isolated', invert: false };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', ...words },
        { type: 'ByteLevel', ...byteLevel },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', ...byteLevel },
    model: {
      ...PLAIN_BPE,
      vocab,
      merges: merges.map((pair) => pair.join(' ')),
    },
  };
}

type CompleteOptions = Required<Omit<BpeOptions, 'onProgress' | 'signal'>> &
  Pick<BpeOptions, 'onProgress' | 'signal'>;

function complete(options: BpeOptions): CompleteOptions {
  const known = ['vocabSize', 'specialTokens', 'minFrequency', 'maxDistinctWords', 'onProgress', 'signal'];
  checkOptions('trainBpe', options, known);
  const { specialTokens = [END_OF_TEXT], minFrequency = 2, maxDistinctWords = 1_000_000 } = options;
  specialTokens.forEach((token, i) => {
    const what = `trainBpe: specialTokens[${i}]`;
    if (typeof token !== 'string' || token === '')
      throw new TypeError(`${what} must be a text, got ${token}`);
    if (specialTokens.indexOf(token) < i) throw new RangeError(`${what} must not come twice, got ${token}`);
    if (BYTE_CHARACTERS.includes(token)) throw new RangeError(`${what} must not be a byte's, got ${token}`);
    if (decodeUtf8(Buffer.from(token)) !== token) throw new RangeError(`${what} must be well formed`);
  });
  checkInteger('trainBpe: vocabSize', options.vocabSize, 256 + specialTokens.length);
  if (options.vocabSize > MOST_TOKENS) {
    throw new RangeError(`trainBpe: vocabSize must be at most ${MOST_TOKENS}, got ${options.vocabSize}`);
  }
  checkInteger('trainBpe: minFrequency', minFrequency, 1);
  checkInteger('trainBpe: maxDistinctWords', maxDistinctWords, 2);
  return { ...options, specialTokens, minFrequency, maxDistinctWords };
}
