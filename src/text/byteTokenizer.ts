import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import { type ChatMessage, type ChatOptions, noChatTemplate } from './chatTemplate';
import { ByteStreamDecoder, newUtf8Decoder } from './streamDecoders';
import type {
  DecodeOptions,
  EncodeOptions,
  StreamDecodeOptions,
  StreamDecoder,
  Tokenizer,
} from './tokenizer';

/** Ids of the byte tokenizer. */
export const BYTE_VOCAB_SIZE = 256;

/**
 * A tokenizer whose ids are bytes: it needs no training and represents every text. vocabSize is 256; there are no
 * special tokens. Its tokenizer.json is `{ "type": "byte", "vocab_size": 256 }`.
 */
export class ByteTokenizer implements Tokenizer {
  readonly type = 'byte';
  readonly vocabSize = BYTE_VOCAB_SIZE;
  readonly endOfText = null;
  readonly piecewise = true;
  readonly hasChatTemplate = false;
  readonly mostBytesPerToken = 1;
  readonly toolCallFormat = 'hermes';

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

  tokenBytes(): (Uint8Array | null)[] {
    return Array.from({ length: BYTE_VOCAB_SIZE }, (_, byte) => Uint8Array.of(byte));
  }

  countBytes(ids: ArrayLike<number>): number {
    for (let i = 0; i < ids.length; i++) checkByte(`ids[${i}]`, ids[i]);
    return ids.length;
  }

  createDecoder(options: StreamDecodeOptions = {}): StreamDecoder {
    return new ByteStreamDecoder((id) => Uint8Array.of(checkByte('id', id)), options.prompt ?? []);
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

function checkByte(name: string, id: number): number {
  if (Number.isInteger(id) && id >= 0 && id < BYTE_VOCAB_SIZE) return id;
  throw new RangeError(`${name} must be an integer in [0, ${BYTE_VOCAB_SIZE}), got ${String(id)}`);
}
