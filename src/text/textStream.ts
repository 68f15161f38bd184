import { checkOptions } from '../base/checks';
import type { StreamDecodeOptions, StreamDecoder, Tokenizer, TokenText } from './tokenizer';

export interface TextStreamOptions extends StreamDecodeOptions {
  /** Texts that end the stream, none of them empty; they are not handed out. Default: none. */
  stop?: readonly string[] | undefined;
}

/**
 * The text of ids that come one at a time, whole characters only, up to a stop text: what they add to the text of the
 * `prompt`, where there is one. What could be the beginning of a stop text is held back until that is decided, across tokens.
 */
export class TextStream {
  /** The stop text that ended the stream, null before. */
  stopped: string | null = null;
  /** What the last id added to the text, whether it is held back, or belongs to a stop text, or not. */
  added = '';
  readonly #decoder: StreamDecoder;
  readonly #stop: readonly string[];
  #held = '';

  constructor(tokenizer: Pick<Tokenizer, 'createDecoder'>, options: TextStreamOptions = {}) {
    checkOptions('TextStream', options, ['stop', 'skipSpecialTokens', 'prompt']);
    const { stop = [], ...decoding } = options;
    if (!Array.isArray(stop) || !stop.every((text) => typeof text === 'string' && text !== '')) {
      throw new TypeError(
        `TextStream: stop must be an array of texts that are not empty, got ${String(stop)}`,
      );
    }
    this.#decoder = tokenizer.createDecoder(decoding);
    this.#stop = stop;
  }

  /** The text that has become certain with this id; '' once the stream has stopped. @throws RangeError as `decode`. */
  push(id: number): string {
    if (this.stopped !== null) return '';
    this.added = this.#decoder.push(id);
    return this.#release(this.added);
  }

  /** What an id would add here, and its bytes, without taking it. @throws RangeError as `decode`. */
  peek(id: number): TokenText {
    return this.#decoder.peek(id);
  }

  /** The rest, when no id follows. */
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

  /** Where the first stop text begins, null when there is none. */
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

  /** Length of the longest end of `text` that a stop text begins with. */
  #undecided(text: string): number {
    let longest = 0;
    for (const stop of this.#stop) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
