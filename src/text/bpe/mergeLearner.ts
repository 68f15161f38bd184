import { BYTE_CHARACTERS } from '../../base/byteAlphabet';
import { MaxHeap } from './maxHeap';

/** Token ids are below this, so that a pair of ids is one exact number. */
export const MOST_TOKENS = 2 ** 24;

/** Two tokens side by side in a word. */
interface Pair {
  count: number;
  /** Indices of words that had the pair at some time; a word may occur twice. */
  words: number[];
}

/**
 * Learns merges by byte-pair encoding (Sennrich et al. 2016): the most frequent pair of neighbouring tokens in the words
 * becomes a token, again and again. Among equally frequent pairs, the one whose first token has the lowest id wins, then
 * the one whose second has, as in Hugging Face's trainer.
 *
 * A merge only updates the counts of pairs that it changes, and a heap orders the pairs. A popped entry whose pair has
 * become rarer meanwhile is pushed again. So all merges together cost little more than a pass over the words for each level
 * of nested tokens.
 */
export class MergeLearner {
  /** Strings of the tokens by id, in the byte alphabet; special tokens come first. */
  readonly tokens: string[];
  /** Pairs of tokens in the order they were merged. */
  readonly merges: [left: string, right: string][] = [];

  readonly #ids = new Map<string, number>();
  readonly #specialTokens: number;
  readonly #merged = new Set<number>();
  readonly #pairs = new Map<number, Pair>();
  readonly #heap = new MaxHeap();
  /** Tokens of all words; word w has lengths[w] of them from starts[w]. */
  readonly #symbols: Int32Array;
  readonly #starts: Float64Array;
  readonly #lengths: Int32Array;
  readonly #counts: Float64Array;

  constructor(words: readonly (readonly [word: string, count: number])[], specialTokens: readonly string[]) {
    this.tokens = [...specialTokens, ...[...BYTE_CHARACTERS].sort()];
    this.tokens.forEach((token, id) => {
      this.#ids.set(token, id);
    });
    this.#specialTokens = specialTokens.length;
    const encoded = words.map(([word]) => Buffer.from(word, 'utf8'));
    this.#symbols = new Int32Array(encoded.reduce((sum, bytes) => sum + bytes.length, 0));
    this.#starts = new Float64Array(words.length);
    this.#lengths = new Int32Array(words.length);
    this.#counts = Float64Array.from(words, ([, count]) => count);
    this.#layOut(encoded);
    for (const [key, { count }] of this.#pairs) this.#heap.push(key, count);
  }

  /** Merges the most frequent pair. Returns false when no pair is left that occurs `minFrequency` times. */
  mergeNext(minFrequency: number): boolean {
    for (let top = this.#heap.pop(); top !== undefined; top = this.#heap.pop()) {
      const { key } = top;
      const count = this.#pairs.get(key)?.count ?? 0;
      if (count < minFrequency) continue;
      if (count !== top.count) this.#heap.push(key, count);
      else if (this.#merge(key)) return true;
    }
    return false;
  }

  #layOut(encoded: readonly Buffer[]): void {
    const idOfByte = BYTE_CHARACTERS.map((character) => this.#ids.get(character)!);
    let start = 0;
    encoded.forEach((bytes, word) => {
      this.#starts[word] = start;
      this.#lengths[word] = bytes.length;
      for (let i = 0; i < bytes.length; i++) {
        this.#symbols[start + i] = idOfByte[bytes[i]];
        if (i > 0)
          this.#change(this.#symbols[start + i - 1], this.#symbols[start + i], word, this.#counts[word]);
      }
      start += bytes.length;
    });
  }

  /** Merges a pair; returns whether that made a token. */
  #merge(key: number): boolean {
    const left = Math.floor(key / MOST_TOKENS);
    const right = key % MOST_TOKENS;
    const string = this.tokens[left] + this.tokens[right];
    const known = this.#ids.get(string);
    const { words } = this.#pairs.get(key)!;
    this.#pairs.delete(key);
    // Text must not turn into a special token by merging.
    if (known !== undefined && known < this.#specialTokens) return false;
    const id = known ?? this.tokens.push(string) - 1;
    this.#ids.set(string, id);
    if (!this.#merged.has(key)) this.merges.push([this.tokens[left], this.tokens[right]]);
    this.#merged.add(key);
    const grown = new Set<number>();
    for (const word of words) this.#mergeInWord(word, left, right, id, grown);
    // Of three equal tokens two merge, so the pair of the other two was decremented once too often.
    this.#pairs.delete(key);
    for (const changed of grown) {
      const pair = this.#pairs.get(changed);
      if (pair !== undefined) this.#heap.push(changed, pair.count);
    }
    return known === undefined;
  }

  /** Replaces each `left right` of a word, from the left, by `id`; adds the keys of new pairs to `grown`. */
  #mergeInWord(word: number, left: number, right: number, id: number, grown: Set<number>): void {
    const symbols = this.#symbols;
    const start = this.#starts[word];
    const end = start + this.#lengths[word];
    const count = this.#counts[word];
    let write = start;
    for (let read = start; read < end; read++) {
      if (symbols[read] !== left || read + 1 === end || symbols[read + 1] !== right) {
        symbols[write++] = symbols[read];
        continue;
      }
      if (write > start) {
        this.#change(symbols[write - 1], left, word, -count);
        grown.add(this.#change(symbols[write - 1], id, word, count));
      }
      if (read + 2 < end) {
        this.#change(right, symbols[read + 2], word, -count);
        grown.add(this.#change(id, symbols[read + 2], word, count));
      }
      symbols[write++] = id;
      read++;
    }
    this.#lengths[word] = write - start;
  }

  /** Adds to the count of a pair in a word, and returns the pair's key. */
  #change(left: number, right: number, word: number, by: number): number {
    const key = left * MOST_TOKENS + right;
    let pair = this.#pairs.get(key);
    if (pair === undefined) {
      pair = { count: 0, words: [] };
      this.#pairs.set(key, pair);
    }
    pair.count += by;
    if (pair.count === 0) this.#pairs.delete(key);
    if (by > 0 && pair.words.at(-1) !== word) pair.words.push(word);
    return key;
  }
}
