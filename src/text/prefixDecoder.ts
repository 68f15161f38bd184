import type { StreamDecoder } from './tokenizer';

/**
 * Streams with a decoder that only knows whole sequences, such as SentencePiece's, whose text of a token depends on the
 * ones before: an id adds what the text with it has more than the text without. While the end is U+FFFD, a character may
 * be incomplete, and nothing is given out. Only the last ids are decoded again, so that a long stream costs no more.
 */
export class PrefixDecoder implements StreamDecoder {
  readonly #decode: (ids: readonly number[]) => string;
  /** The ids of the last piece that was given out, then those that are held back. */
  #ids: number[] = [];
  #given = 0;

  constructor(decode: (ids: readonly number[]) => string) {
    this.#decode = decode;
  }

  push(id: number): string {
    this.#decode([id]); // throws for an id outside the vocabulary, before it is taken
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    return text.endsWith('\ufffd') ? '' : this.#give(text);
  }

  flush(): string {
    const rest = this.#give(this.#decode(this.#ids));
    this.#ids = [];
    this.#given = 0;
    return rest;
  }

  #give(text: string): string {
    const before = this.#decode(this.#ids.slice(0, this.#given));
    // Without new text there must be older text in front still, lest the beginning of a stream be taken for another.
    if (text.length > before.length && this.#given > 0) {
      this.#ids = this.#ids.slice(this.#given);
      const piece = text.slice(before.length);
      this.#given = this.#ids.length;
      return piece;
    }
    this.#given = this.#ids.length;
    return text.slice(before.length);
  }
}
