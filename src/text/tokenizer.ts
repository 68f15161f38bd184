import { TextDecoder } from 'node:util';
import { SgemoeError } from '../base/errors';
import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import { type ChatMessage, type ChatOptions, noChatTemplate } from './chatTemplate';
import { HuggingFaceTokenizer } from './huggingFaceTokenizer';

/**
 * Text to token ids and back. Ids are integers in [0, vocabSize). Decoding the ids of a well-formed text gives that text
 * back, spaces included, with the byte tokenizer and with every byte-level tokenizer.json that asks for no normalisation.
 */
export interface Tokenizer {
  /** 'byte', or 'huggingface' for one that a tokenizer.json of Hugging Face's describes. */
  readonly type: string;
  /** The highest id there is, and 1. */
  readonly vocabSize: number;
  /** The token that ends a text and separates documents, null when there is none. */
  readonly endOfText: number | null;
  /** Whether a long text can be encoded in pieces that are cut in front of spaces, in little memory. */
  readonly piecewise: boolean;
  /** Whether `applyChatTemplate` has a template to apply. */
  readonly hasChatTemplate: boolean;

  /** The ids of a text, or of the UTF-8 (or any other) bytes of one. Lone surrogates become U+FFFD. */
  encode(text: string | Uint8Array, options?: EncodeOptions): Int32Array;

  /**
   * The text of ids, for display: bytes that are not UTF-8 become U+FFFD.
   * @throws RangeError when an id lies outside the vocabulary.
   */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;

  /** The bytes of ids, exactly those that were encoded where decoding is lossless. @throws RangeError as `decode`. */
  decodeBytes(ids: ArrayLike<number>): Uint8Array;

  /**
   * How many bytes of text the ids stand for: the denominator of bits per byte. Special tokens stand for none. @throws
   * RangeError as `decode`.
   */
  countBytes(ids: ArrayLike<number>): number;

  /** A decoder for one stream of ids, with its own state. */
  createDecoder(options?: DecodeOptions): StreamDecoder;

  /**
   * The text of a conversation as the model was trained to see it; to be encoded without special tokens of the tokenizer's,
   * since the template writes them.
   * @throws SgemoeError SGEMOE_CHAT_TEMPLATE when there is no template, or it refuses the messages.
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatOptions): string;

  /** The content of tokenizer.json; `loadTokenizer` turns it into an equal tokenizer. */
  toJSON(): Record<string, unknown>;

  /** All that is stored of the tokenizer beside a model: `model.save(dir, tokenizer.files())`. */
  files(): TokenizerFiles;
}

export interface EncodeOptions {
  /**
   * Also the tokens that the tokenizer puts around every text, such as a beginning of text; they stand in for no bytes.
   * Default false.
   */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
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
  readonly endOfText = null;
  readonly piecewise = true;
  readonly hasChatTemplate = false;

  encode(text: string | Uint8Array, _options?: EncodeOptions): Int32Array {
    if (typeof text === 'string') return new Int32Array(new TextEncoder().encode(text));
    if (text instanceof Uint8Array) return new Int32Array(text);
    throw new TypeError(`text must be a string or a Uint8Array, got ${typeof text}`);
  }

  decode(ids: ArrayLike<number>, _options?: DecodeOptions): string {
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

  createDecoder(_options?: DecodeOptions): StreamDecoder {
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

  applyChatTemplate(_messages: readonly ChatMessage[], _options?: ChatOptions): string {
    throw noChatTemplate('The byte tokenizer has no chat template.');
  }

  toJSON(): Record<string, unknown> {
    return { type: this.type, vocab_size: this.vocabSize };
  }

  files(): TokenizerFiles {
    return { tokenizer: this.toJSON() };
  }
}

/**
 * The tokenizer that a parsed tokenizer.json describes: `{ "type": "byte", "vocab_size": 256 }`, or any file of Hugging
 * Face's tokenizers libraries (it has a "model").
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID when it describes neither, or something that isn't supported.
 */
export function loadTokenizer(json: unknown, files: Omit<TokenizerFiles, 'tokenizer'> = {}): Tokenizer {
  const description = asObject(json);
  if ('model' in description) return new HuggingFaceTokenizer(description, files);
  if (description.type !== 'byte') {
    throw invalid(
      `tokenizer.json must have a "model", or a "type" that this version knows ("byte"), got ${show(description.type)}`,
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
