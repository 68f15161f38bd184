import { checkOptions } from '../base/checks';
import type { StreamDecodeOptions, StreamDecoder, Tokenizer, TokenText } from './tokenizer';

export interface TextStreamOptions extends StreamDecodeOptions {
  /** Tokens with texts of their own, which stand for them even where special tokens are left out. Default: none. */
  marks?: ReadonlyMap<number, string> | undefined;
  /** Texts, not empty, that end the stream and aren't given out. Default: none. */
  stop?: readonly string[] | undefined;
}

/**
 * The text that ids, arriving one at a time, add to the text of the `prompt`: whole characters only, up to a stop text. Text
 * that may be the beginning of a stop text is held back, across tokens, until that is decided.
 */
export class TextStream {
  /** The stop text that ended the stream; null before. */
  stopped: string | null = null;
  /** The text that the last id added, even if it is held back or belongs to a stop text. */
  added = '';
  readonly #decoder: StreamDecoder;
  readonly #stop: readonly string[];
  readonly #marks: ReadonlyMap<number, string>;
  #held = '';

  constructor(tokenizer: Pick<Tokenizer, 'createDecoder'>, options: TextStreamOptions = {}) {
    checkOptions('TextStream', options, ['stop', 'marks', 'skipSpecialTokens', 'prompt']);
    const { stop = [], marks = new Map(), ...decoding } = options;
    if (!Array.isArray(stop) || !stop.every((text) => typeof text === 'string' && text !== '')) {
      throw new TypeError(
        `TextStream: stop must be an array of texts that are not empty, got ${String(stop)}`,
      );
    }
    this.#decoder = tokenizer.createDecoder(decoding);
    this.#stop = stop;
    this.#marks = marks;
  }

  /**
   * The text that has become certain with this id; '' once the stream has stopped. @param mayStop whether a stop text that
   * ends in it counts. @throws RangeError as `decode`.
   */
  push(id: number, mayStop = true): string {
    if (this.stopped !== null) return '';
    this.added = this.#marks.get(id) ?? this.#decoder.push(id);
    return mayStop ? this.#release(this.added) : this.added;
  }

  /** The text that an id would add here, and its bytes, without taking the id. @throws RangeError as `decode`. */
  peek(id: number): TokenText {
    return this.#decoder.peek(id);
  }

  /** Text that is held back, since a stop text may have begun. */
  get held(): string {
    return this.#held;
  }

  /** The rest of the text, after the last id. */
  flush(): string {
    if (this.stopped !== null) return '';
    const text = this.#release(this.#decoder.flush());
    const rest = this.stopped === null ? this.#held : '';
    this.#held = '';
    return text + rest;
  }

  #release(text: string): string {
    if (text === '' || this.#stop.length === 0) return text;
    const all = this.#held + text;
    const end = this.#findStop(all);
    const certain = end ?? all.length - this.#undecided(all);
    this.#held = all.slice(certain);
    return all.slice(0, certain);
  }

  /** The place of the first stop text; null if there is none. */
  #findStop(text: string): number | null {
    let first: number | null = null;
    for (const stop of this.#stop) {
      const at = text.indexOf(stop);
      if (at < 0 || (first !== null && at >= first)) continue;
      first = at;
      this.stopped = stop;
    }
    return first;
  }

  /** Length of the longest end of `text` that is the beginning of a stop text. */
  #undecided(text: string): number {
    let longest = 0;
    for (const stop of this.#stop) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text[text.length - n] === stop[0] && text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
