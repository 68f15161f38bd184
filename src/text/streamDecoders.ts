import { TextDecoder } from 'node:util';
import { type DecoderStage, rawBytesToText, toBytes } from './pipeline/decoders';
import type { StreamDecoder, TokenText } from './tokenizer';

/** The most bytes that a character can have before its last. */
const MOST_OPEN_BYTES = 3;
const NO_BYTES = new Uint8Array(0);

/**
 * Removes the prompt's text from a stream's text. If the prompt ends in something incomplete, its text has that as it is;
 * the stream then begins with what that becomes, unless it is the same.
 */
class PromptEnd {
  #given = '';

  /** @param incomplete the end of the prompt's text that a stream would give out later. */
  set(incomplete: string): void {
    this.#given = incomplete;
  }

  /** The text without the part that the prompt's text has already. */
  cut(text: string): string {
    const { length } = this.#given;
    return text.startsWith(this.#given) ? text.slice(length) : this.#given.startsWith(text) ? '' : text;
  }

  /** Applies `cut` to text that is given out. */
  take(text: string): string {
    const rest = this.cut(text);
    this.#given = this.#given.startsWith(text) ? this.#given.slice(text.length) : '';
    return rest;
  }
}

/** Streams tokens that are bytes. */
export class ByteStreamDecoder implements StreamDecoder {
  #utf8 = newUtf8Decoder();
  /** The last bytes, which contain any incomplete character. */
  #tail: Uint8Array = NO_BYTES;
  readonly #promptEnd = new PromptEnd();

  /**
   * @param bytesOf the bytes of an id. @throws RangeError for an id outside the vocabulary.
   * @param prompt ids that the stream goes on from.
   */
  constructor(
    private readonly bytesOf: (id: number) => Uint8Array,
    prompt: ArrayLike<number>,
  ) {
    const parts: Uint8Array[] = [];
    let length = 0;
    for (let i = prompt.length - 1; i >= 0 && length < MOST_OPEN_BYTES; i--) {
      parts.unshift(bytesOf(prompt[i]));
      length += parts[0].length;
    }
    this.#take(Buffer.concat(parts));
    this.#promptEnd.set(this.#copy().decode());
  }

  push(id: number): string {
    return this.#promptEnd.take(this.#take(this.bytesOf(id)));
  }

  peek(id: number): TokenText {
    const bytes = this.bytesOf(id);
    return { text: this.#promptEnd.cut(this.#copy().decode(bytes, { stream: true })), bytes };
  }

  flush(): string {
    this.#tail = NO_BYTES;
    return this.#promptEnd.take(this.#utf8.decode());
  }

  /** A decoder in the same state. */
  #copy(): TextDecoder {
    const utf8 = newUtf8Decoder();
    utf8.decode(this.#tail, { stream: true });
    return utf8;
  }

  #take(bytes: Uint8Array): string {
    // After ASCII nothing is incomplete.
    if (bytes.length > 0 && bytes[bytes.length - 1] < 0x80) this.#tail = NO_BYTES;
    else this.#tail = Buffer.concat([this.#tail, bytes]).subarray(-MOST_OPEN_BYTES);
    return this.#utf8.decode(bytes, { stream: true });
  }
}

/** Streams tokens through the stages of a decoder, whose text depends on earlier tokens. */
export class StageStreamDecoder implements StreamDecoder {
  #states: object[];
  readonly #promptEnd = new PromptEnd();

  /**
   * @param tokenOf the string of an id, null for none. @throws RangeError for an id outside the vocabulary.
   * @param prompt ids that the stream goes on from.
   */
  constructor(
    private readonly stages: readonly DecoderStage[],
    private readonly tokenOf: (id: number) => string | null,
    prompt: ArrayLike<number>,
  ) {
    this.#states = this.#begin();
    for (let i = 0; i < prompt.length; i++) this.#run(prompt[i], this.#states);
    this.#promptEnd.set(rawBytesToText(this.#end(this.#copy())));
  }

  push(id: number): string {
    return this.#promptEnd.take(rawBytesToText(this.#run(id, this.#states)));
  }

  peek(id: number): TokenText {
    const text = this.#promptEnd.cut(rawBytesToText(this.#run(id, this.#copy())));
    // The token alone, without what earlier tokens left open.
    const alone = this.#copy();
    this.#end(alone);
    return { text, bytes: toBytes(this.#run(id, alone) + this.#end(alone)) };
  }

  flush(): string {
    return this.#promptEnd.take(rawBytesToText(this.flushRaw()));
  }

  /** Does the work of `push` and `flush`, with bytes that aren't UTF-8 in the form of the stages. */
  pushRaw(id: number): string {
    return this.#run(id, this.#states);
  }

  flushRaw(): string {
    const rest = this.#end(this.#states);
    this.#states = this.#begin();
    return rest;
  }

  #begin(): object[] {
    return this.stages.map(({ start }) => ({ ...start }));
  }

  #copy(): object[] {
    return this.#states.map((state) => ({ ...state }));
  }

  #run(id: number, states: object[]): string {
    const token = this.tokenOf(id);
    return token === null ? '' : this.#through([token], 0, states);
  }

  #through(pieces: readonly string[], from: number, states: object[]): string {
    let now = pieces;
    for (let i = from; i < this.stages.length && now.length > 0; i++) {
      const { stages } = this;
      now =
        now.length === 1
          ? stages[i].push(states[i], now[0])
          : now.flatMap((piece) => stages[i].push(states[i], piece));
    }
    return now.length === 1 ? now[0] : now.join('');
  }

  /** Flushes what the stages still hold through the later stages. */
  #end(states: object[]): string {
    return this.stages.map(({ flush }, i) => this.#through(flush?.(states[i]) ?? [], i + 1, states)).join('');
  }
}

// ignoreBOM keeps a leading U+FEFF in the text, so that decoding drops nothing.
export function newUtf8Decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true });
}
