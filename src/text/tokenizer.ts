import { TextDecoder } from 'node:util';
import { SgemoeError } from '../errors';

/**
 * Text to token ids and back. Ids are integers in [0, vocabSize). Whatever the vocabulary, decoding the ids
 * of a well-formed text gives that text back, spaces included.
 */
export interface Tokenizer {
  /** The name that tokenizer.json carries and `loadTokenizer` looks at, such as 'byte'. */
  readonly type: string;
  readonly vocabSize: number;

  /** The ids of a text, or of the UTF-8 (or any other) bytes of one. Lone surrogates become U+FFFD. */
  encode(text: string | Uint8Array): Int32Array;

  /**
   * The text of ids, for display: bytes that are not UTF-8 become U+FFFD.
   * @throws RangeError when an id lies outside the vocabulary.
   */
  decode(ids: ArrayLike<number>): string;

  /** The exact bytes of ids. @throws RangeError as `decode`. */
  decodeBytes(ids: ArrayLike<number>): Uint8Array;

  /**
   * How many bytes of text the ids stand for: the denominator of bits per byte. @throws RangeError as
   * `decode`.
   */
  countBytes(ids: ArrayLike<number>): number;

  /** A decoder for one stream of ids, with its own state. */
  createDecoder(): StreamDecoder;

  /** The content of tokenizer.json; `loadTokenizer` turns it into an equal tokenizer. */
  toJSON(): Record<string, unknown>;
}

/**
 * Decodes ids one at a time; the pieces joined, `flush` included, are what `decode` gives for all of them.
 */
export interface StreamDecoder {
  /**
   * The text that has become certain with this id: '' while a character is still incomplete.
   * @throws RangeError when the id lies outside the vocabulary.
   */
  push(id: number): string;

  /** U+FFFD for an incomplete character at the end, else ''. The decoder is as new afterwards. */
  flush(): string;
}

const BYTE_VOCAB_SIZE = 256;

/**
 * Bytes are ids: nothing to train, nothing to download, no text it can't represent. vocabSize is 256; there
 * are no special tokens. tokenizer.json is `{ "type": "byte", "vocab_size": 256 }`.
 */
export class ByteTokenizer implements Tokenizer {
  readonly type = 'byte';
  readonly vocabSize = BYTE_VOCAB_SIZE;

  encode(text: string | Uint8Array): Int32Array {
    if (typeof text === 'string') return new Int32Array(new TextEncoder().encode(text));
    if (text instanceof Uint8Array) return new Int32Array(text);
    throw new TypeError(`text must be a string or a Uint8Array, got ${typeof text}`);
  }

  decode(ids: ArrayLike<number>): string {
    return newUtf8Decoder().decode(this.decodeBytes(ids));
  }

  decodeBytes(ids: ArrayLike<number>): Uint8Array {
    const bytes = new Uint8Array(ids.length);
    for (let i = 0; i < ids.length; i++) bytes[i] = checkByte(`ids[${i}]`, ids[i]);
    return bytes;
  }

  countBytes(ids: ArrayLike<number>): number {
    for (let i = 0; i < ids.length; i++) checkByte(`ids[${i}]`, ids[i]);
    return ids.length;
  }

  createDecoder(): StreamDecoder {
    const utf8 = newUtf8Decoder();
    const byte = new Uint8Array(1);
    return {
      push(id) {
        byte[0] = checkByte('id', id);
        return utf8.decode(byte, { stream: true });
      },
      flush: () => utf8.decode(),
    };
  }

  toJSON(): Record<string, unknown> {
    return { type: this.type, vocab_size: this.vocabSize };
  }
}

/**
 * The tokenizer that a parsed tokenizer.json describes. Known types: 'byte'.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID when the type is missing or unknown, or a field contradicts
 * it.
 */
export function loadTokenizer(json: unknown): Tokenizer {
  const description = asObject(json);
  if (description.type !== 'byte') {
    throw invalid(
      `tokenizer.json must have a "type" that this version knows ("byte"), got ${show(description.type)}`,
    );
  }
  if (description.vocab_size !== BYTE_VOCAB_SIZE) {
    throw invalid(
      `tokenizer.json of type "byte" must have "vocab_size" ${BYTE_VOCAB_SIZE}, ` +
        `got ${show(description.vocab_size)}`,
    );
  }
  return new ByteTokenizer();
}

// ignoreBOM keeps a leading U+FEFF in the text: decoding drops nothing.
function newUtf8Decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true });
}

function checkByte(name: string, id: number): number {
  if (Number.isInteger(id) && id >= 0 && id < BYTE_VOCAB_SIZE) return id;
  throw new RangeError(`${name} must be an integer in [0, ${BYTE_VOCAB_SIZE}), got ${String(id)}`);
}

function asObject(json: unknown): Record<string, unknown> {
  if (typeof json === 'object' && json !== null && !Array.isArray(json))
    return json as Record<string, unknown>;
  throw invalid(`tokenizer.json must hold a JSON object, got ${show(json)}`);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

function invalid(message: string): SgemoeError {
  return new SgemoeError('SGEMOE_TOKENIZER_INVALID', message);
}
