import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import type { ChatMessage, ChatOptions } from './chatTemplate';

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

  /**
   * A decoder for one stream of ids, with its own state.
   * @throws RangeError when an id of the prompt lies outside the vocabulary.
   */
  createDecoder(options?: StreamDecodeOptions): StreamDecoder;

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
  addSpecialTokens?: boolean | undefined;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean | undefined;
}

export interface StreamDecodeOptions extends DecodeOptions {
  /**
   * Ids that the stream goes on from. Their text is not given out; what the ids after them add to it is, such as a space
   * that would be left out at the beginning of a text. Default: none.
   */
  prompt?: ArrayLike<number> | undefined;
}

/** What a token adds to a text. */
export interface TokenText {
  /** '' while a character is still incomplete; the token that completes it adds all of it. */
  text: string;
  /** The token's own bytes, also those of a part of a character. */
  bytes: Uint8Array;
}

/**
 * Decodes ids one at a time; the pieces joined, `flush` included, are what `decode` gives for the prompt and all of them,
 * without what it gives for the prompt alone.
 */
export interface StreamDecoder {
  /**
   * The text that has become certain with this id: '' while a character is still incomplete.
   * @throws RangeError when the id lies outside the vocabulary.
   */
  push(id: number): string;

  /** What `push` would give for this id, and the id's bytes, without taking it. @throws RangeError as `push`. */
  peek(id: number): TokenText;

  /** U+FFFD for an incomplete character at the end, else ''. The decoder begins a new text afterwards. */
  flush(): string;
}
