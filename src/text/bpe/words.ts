/**
 * The pattern of GPT-2's words (Radford et al. 2019) in the form of Hugging Face's `Split`: English contractions; runs of
 * letters, of numbers or of other characters, with at most one space before them; white space, whose last character belongs
 * to the next word.
 */
export const WORD_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/**
 * The same for JavaScript, whose own \s has U+FEFF and lacks U+0085; in Hugging Face's libraries \s is Unicode's property.
 */
const WORDS = new RegExp(
  WORD_PATTERN.replaceAll('\\s', '\\p{White_Space}').replaceAll('\\S', '\\P{White_Space}'),
  'gu',
);

/** The longest counted word, in UTF-16 units, so that a page of dashes can't become one huge word. */
const MOST_WORD_UNITS = 128;

/** The words of a well-formed text; joined they are the text. */
export function splitWords(text: string): string[] {
  return text.match(WORDS) ?? [];
}

export interface WordCountsState {
  /** Bytes of text counted, in UTF-8. */
  bytes: number;
  distinctWords: number;
  /** Number of occurrences of words that were dropped. */
  droppedOccurrences: number;
  occurrences: number;
}

/**
 * Counts words in bounded memory. When there are more than `maxDistinctWords` different words, the rarest are dropped, by
 * the smallest threshold that leaves at most half, as in lossy counting (Manku and Motwani 2002). A dropped word that
 * occurs again starts at 1. The result depends only on the text and its order.
 */
export class WordCounts {
  readonly state: WordCountsState = { bytes: 0, distinctWords: 0, droppedOccurrences: 0, occurrences: 0 };
  #counts = new Map<string, { count: number }>();
  readonly #maxDistinctWords: number;

  constructor(maxDistinctWords: number) {
    this.#maxDistinctWords = maxDistinctWords;
  }

  /** Adds the words of a text. It must be well formed. */
  add(text: string): void {
    for (const word of splitWords(text)) {
      if (word.length <= MOST_WORD_UNITS) this.#count(word);
      else for (const part of partsOf(word)) this.#count(part);
    }
    this.state.distinctWords = this.#counts.size;
  }

  /** The words in the order of their first occurrence. */
  entries(): [word: string, count: number][] {
    return Array.from(this.#counts, ([word, { count }]) => [word, count]);
  }

  #count(word: string): void {
    this.state.occurrences++;
    const entry = this.#counts.get(word);
    if (entry !== undefined) {
      entry.count++;
      return;
    }
    // A copy, because the word itself would keep the whole text it was cut from alive.
    this.#counts.set(Buffer.from(word, 'utf8').toString('utf8'), { count: 1 });
    if (this.#counts.size > this.#maxDistinctWords) this.#dropRare();
  }

  #dropRare(): void {
    const sorted = Float64Array.from(this.#counts.values(), ({ count }) => count).sort();
    const threshold = sorted[Math.ceil(sorted.length / 2) - 1];
    const kept = new Map<string, { count: number }>();
    for (const [word, entry] of this.#counts) {
      if (entry.count > threshold) kept.set(word, entry);
      else this.state.droppedOccurrences += entry.count;
    }
    this.#counts = kept;
  }
}

function* partsOf(word: string): Generator<string, void> {
  for (let start = 0; start < word.length; ) {
    let end = Math.min(start + MOST_WORD_UNITS, word.length);
    // The cut must not separate the two halves of a character.
    if (end < word.length && /[\ud800-\udbff]/.test(word[end - 1])) end--;
    yield word.slice(start, end);
    start = end;
  }
}
