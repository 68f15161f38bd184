import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import type { ChatMessage, ChatOptions } from './chatTemplate';
import type { ToolCallFormatName } from './toolCalls/formats';

/**
 * Turns text into token ids and back. Ids are integers in [0, vocabSize). The byte tokenizer, and every byte-level
 * tokenizer.json without normalisation, decodes the ids of a well-formed text to exactly that text, spaces included.
 */
export interface Tokenizer {
  /** 'byte', or 'huggingface' for one that Hugging Face's tokenizer.json describes. */
  readonly type: string;
  /** The highest id plus 1. */
  readonly vocabSize: number;
  /** The token that ends a text and separates documents; null if there is none. */
  readonly endOfText: number | null;
  /** Whether a long text can be encoded in pieces, cut before spaces, in little memory. */
  readonly piecewise: boolean;
  /** Whether `applyChatTemplate` has a template. */
  readonly hasChatTemplate: boolean;
  /**
   * The largest number of bytes of text, in UTF-8, that a token can stand for, so that a text of n bytes has at least n divided
   * by it tokens. Infinity where there is no such limit, as for a tokenizer that leaves out spaces.
   */
  readonly mostBytesPerToken: number;
  /** The form in which answers by that template have calls of functions; null for one that isn't known. */
  readonly toolCallFormat: ToolCallFormatName | null;

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
   * For each id the bytes that its token adds to a text that has begun; null for special tokens, which add none, and unused
   * ids. Constrained sampling needs them: `new TokenVocabulary(tokenizer.tokenBytes())`.
   * @throws SgemoeError SGEMOE_TOKENIZER_INVALID where a token's text depends on its neighbours (CTC, BPEDecoder).
   */
  tokenBytes(): (Uint8Array | null)[];

  /**
   * The bytes of text that the ids stand for, the denominator of bits per byte. Special tokens stand for none.
   * @throws RangeError as `decode`.
   */
  countBytes(ids: ArrayLike<number>): number;

  /**
   * A decoder for one stream of ids, with its own state.
   * @throws RangeError when an id of the prompt lies outside the vocabulary.
   */
  createDecoder(options?: StreamDecodeOptions): StreamDecoder;

  /**
   * The text of a conversation in the form that the model was trained on. Encode it without special tokens, since the
   * template writes them.
   * @throws SgemoeError SGEMOE_CHAT_TEMPLATE if there is no template, or it refuses the messages.
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatOptions): string;

  /** The content of tokenizer.json; `loadTokenizer` turns it into an equal tokenizer. */
  toJSON(): Record<string, unknown>;

  /** The tokenizer's files, to store beside a model: `model.save(dir, tokenizer.files())`. */
  files(): TokenizerFiles;
}

export interface EncodeOptions {
  /**
   * Adds the tokens that the tokenizer puts around every text, such as a beginning of text; they stand for no bytes.
   * Default false.
   */
  addSpecialTokens?: boolean | undefined;
  /**
   * Stops soon after this many tokens, an integer >= 0: of a text with more the first ones are returned, more than `mostTokens`
   * in any case. Default: no limit.
   */
  mostTokens?: number | undefined;
}

export interface DecodeOptions {
  /** Leaves special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean | undefined;
}

export interface StreamDecodeOptions extends DecodeOptions {
  /**
   * Ids that precede the stream. Their text isn't given out, only what later ids add to it, such as a space that would be
   * left out at the beginning of a text. Default: none.
   */
  prompt?: ArrayLike<number> | undefined;
}

/** The text that a token adds, and the token's bytes. */
export interface TokenText {
  /** The added text: '' while a character is incomplete; the token that completes it adds all of it. */
  text: string;
  /** The token's own bytes, even if they are a part of a character. */
  bytes: Uint8Array;
}

/**
 * Decodes ids one at a time. The joined pieces, `flush` included, are `decode` of the prompt and all ids without `decode` of
 * the prompt alone.
 */
export interface StreamDecoder {
  /**
   * The text that has become certain with this id: '' while a character is still incomplete.
   * @throws RangeError when the id lies outside the vocabulary.
   */
  push(id: number): string;

  /** The text that `push` would give for this id, and the id's bytes, without taking it. @throws RangeError as `push`. */
  peek(id: number): TokenText;

  /** U+FFFD for an incomplete character at the end, else ''. The decoder begins a new text afterwards. */
  flush(): string;
}
