import { charactersToBytes } from '../base/byteAlphabet';
import { checkInteger, checkOptions } from '../base/checks';
import { SgemoeError } from '../base/errors';
import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import { CharacterEncoder } from './characterEncoder';
import { type ChatMessage, type ChatOptions, ChatTemplates, tokenContent } from './chatTemplate';
import { toBytes } from './pipeline/decoders';
import { Pipeline } from './pipeline/pipeline';
import { ByteStreamDecoder, newUtf8Decoder, StageStreamDecoder } from './streamDecoders';
import type {
  DecodeOptions,
  EncodeOptions,
  StreamDecodeOptions,
  StreamDecoder,
  Tokenizer,
} from './tokenizer';
import type { ToolCallFormatName } from './toolCalls/formats';

/** Names of the token that ends a text, for files that don't name it; the first that exists is taken. */
const END_OF_TEXT_NAMES = ['<|endoftext|>', '<|end_of_text|>', '</s>', '<eos>', '<|im_end|>'];

/**
 * A tokenizer that a tokenizer.json of Hugging Face's tokenizers libraries describes. It gives the ids and texts of the
 * Python library. Settings that are invalid there or not supported here are refused, never ignored.
 *
 * A byte-level tokenizer (GPT-2, OLMoE, Qwen, Granite, those of `trainBpe`) decodes to exactly the bytes that were encoded,
 * unless the file asks for a normalisation (Qwen: NFC) or a leading space; one of `trainCharacters` decodes to exactly the
 * text. Decoding never cleans up, and encoding never truncates or pads, whatever the configuration says.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly type = 'huggingface';
  readonly vocabSize: number;
  readonly endOfText: number | null;
  readonly piecewise: boolean;
  readonly hasChatTemplate: boolean;
  readonly mostBytesPerToken: number;
  readonly toolCallFormat: ToolCallFormatName | null;
  /** Whether ids stand for bytes, so that decoding is lossless and streams byte by byte. */
  readonly byteLevel: boolean;
  /** Ids of special tokens by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;

  readonly #json: Record<string, unknown>;
  readonly #files: Omit<TokenizerFiles, 'tokenizer'>;
  readonly #pipeline: Pipeline;
  readonly #characters: CharacterEncoder | null;
  /** Tokens by id, followed by ids by token, including those outside the model's vocabulary. */
  readonly #tokens: readonly (string | undefined)[];
  readonly #ids: ReadonlyMap<string, number>;
  readonly #chat: ChatTemplates;
  readonly #specialIds: ReadonlySet<number>;
  /** Bytes of each token; empty unless byteLevel. */
  readonly #bytes: readonly Uint8Array[];

  /**
   * @param json parsed content of tokenizer.json; not copied.
   * @param files the files beside it.
   * @throws SgemoeError SGEMOE_TOKENIZER_INVALID if Hugging Face's tokenizers would refuse it, or it isn't supported.
   */
  constructor(json: object, files: Omit<TokenizerFiles, 'tokenizer'> = {}) {
    const config = (files.tokenizerConfig ?? {}) as Record<string, unknown>;
    this.#pipeline = new Pipeline(json);
    this.#characters = CharacterEncoder.create(json);
    this.#json = json as Record<string, unknown>;
    this.#files = files;
    this.#chat = new ChatTemplates(config, files.chatTemplate);
    this.hasChatTemplate = this.#chat.count > 0;
    const { model, addedTokens, piecewise, byteLevel } = this.#pipeline;
    const special = addedTokens.filter((token) => token.special);
    this.specialTokens = new Map(special.map(({ content, id }) => [content, id]));
    this.#specialIds = new Set(special.map(({ id }) => id));
    this.#tokens = this.#pipeline.tokens;
    this.#ids = new Map([...model.vocab, ...addedTokens.map(({ content, id }) => [content, id] as const)]);
    this.toolCallFormat = this.#chat.toolCallFormat((text) => this.#ids.has(text));
    this.piecewise = piecewise || this.#characters !== null;
    this.byteLevel = byteLevel || this.#characters !== null;
    this.mostBytesPerToken = this.#characters === null ? this.#pipeline.mostBytesPerToken : 4;
    this.vocabSize = this.#tokens.length;
    this.#bytes = this.byteLevel ? this.#byteTable() : [];
    this.endOfText = this.#findEndOfText(tokenContent(config.eos_token));
  }

  encode(text: string | Uint8Array, options: EncodeOptions = {}): Int32Array {
    checkOptions('encode', options, ['addSpecialTokens', 'mostTokens']);
    const { mostTokens = Number.POSITIVE_INFINITY } = options;
    if (options.mostTokens !== undefined) checkInteger('encode: mostTokens', mostTokens, 0);
    const ids = this.#encodeAlone(text, mostTokens);
    if (options.addSpecialTokens !== true) return ids;
    const { before, after } = this.#pipeline.around;
    return Int32Array.from([...before, ...ids, ...after]);
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    checkOptions('decode', options, ['skipSpecialTokens']);
    this.#check(ids);
    const shown = Array.from(ids).filter((id) => this.#isShown(id, options));
    if (this.byteLevel) return newUtf8Decoder().decode(this.#join(shown));
    const decoder = this.#stageDecoder(options, []);
    return shown.map((id) => decoder.push(id)).join('') + decoder.flush();
  }

  decodeBytes(ids: ArrayLike<number>): Uint8Array {
    this.#check(ids);
    if (this.byteLevel) return this.#join(ids);
    const decoder = this.#stageDecoder({}, []);
    return toBytes(Array.from(ids, (id) => decoder.pushRaw(id)).join('') + decoder.flushRaw());
  }

  tokenBytes(): (Uint8Array | null)[] {
    const isText = (id: number) => this.#tokens[id] !== undefined && !this.#specialIds.has(id);
    if (this.byteLevel) return this.#bytes.map((bytes, id) => (isText(id) ? bytes : null));
    if (this.#pipeline.decoder.some(({ usesNeighbours }) => usesNeighbours)) {
      throw new SgemoeError(
        'SGEMOE_TOKENIZER_INVALID',
        "The tokenizer's tokens have other texts beside other tokens, so texts can't be constrained token by token.",
      );
    }
    // A token before it, since the first one of a text may lose a space.
    const first = this.#tokens.findIndex((_, id) => isText(id));
    const decoder = this.#stageDecoder({}, first < 0 ? [] : [first]);
    return this.#tokens.map((_, id) => (isText(id) ? decoder.peek(id).bytes : null));
  }

  countBytes(ids: ArrayLike<number>): number {
    if (!this.byteLevel) return Buffer.byteLength(this.decode(ids, { skipSpecialTokens: true }));
    this.#check(ids);
    let sum = 0;
    for (let i = 0; i < ids.length; i++) if (!this.#specialIds.has(ids[i])) sum += this.#bytes[ids[i]].length;
    return sum;
  }

  createDecoder(options: StreamDecodeOptions = {}): StreamDecoder {
    checkOptions('createDecoder', options, ['skipSpecialTokens', 'prompt']);
    const { prompt = [] } = options;
    this.#check(prompt);
    if (!this.byteLevel) return this.#stageDecoder(options, prompt);
    const nothing = new Uint8Array(0);
    return new ByteStreamDecoder((id) => {
      this.#check([id]);
      return this.#isShown(id, options) ? this.#bytes[id] : nothing;
    }, prompt);
  }

  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatOptions): string {
    return this.#chat.render(messages, options);
  }

  /** The id of a token's string in tokenizer.json's form ('Ġthe'); undefined if there is none. */
  tokenToId(token: string): number | undefined {
    return this.#ids.get(token);
  }

  /** The string of a token in tokenizer.json's form; undefined for an unused id. */
  idToToken(id: number): string | undefined {
    return this.#tokens[id];
  }

  toJSON(): Record<string, unknown> {
    return this.#json;
  }

  files(): TokenizerFiles {
    const { tokenizerConfig, chatTemplate } = this.#files;
    return { tokenizer: this.#json, tokenizerConfig, chatTemplate };
  }

  #encodeAlone(text: string | Uint8Array, mostTokens: number): Int32Array {
    if (typeof text !== 'string' && !(text instanceof Uint8Array)) {
      throw new TypeError(`text must be a string or a Uint8Array, got ${typeof text}`);
    }
    // Converting to bytes also turns lone surrogates into U+FFFD.
    const bytes = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
    return this.#characters?.encode(bytes) ?? this.#pipeline.encode(bytes, mostTokens);
  }

  #stageDecoder(options: DecodeOptions, prompt: ArrayLike<number>): StageStreamDecoder {
    const tokenOf = (id: number) => {
      this.#check([id]);
      return this.#isShown(id, options) ? this.#tokens[id]! : null;
    };
    return new StageStreamDecoder(this.#pipeline.decoder, tokenOf, prompt);
  }

  /** The bytes of each token; empty for an unused id. */
  #byteTable(): Uint8Array[] {
    const added = new Set(this.#pipeline.addedTokens.map(({ id }) => id));
    return Array.from(this.#tokens, (token = '', id) => {
      const isText = this.#characters !== null || added.has(id);
      return (isText ? null : charactersToBytes(token)) ?? new TextEncoder().encode(token);
    });
  }

  #findEndOfText(name: string | null): number | null {
    const names = name === null ? END_OF_TEXT_NAMES : [name];
    for (const each of names) {
      const id = this.#ids.get(each);
      if (id !== undefined) return id;
    }
    return null;
  }

  #isShown(id: number, { skipSpecialTokens = false }: DecodeOptions): boolean {
    return this.#tokens[id] !== undefined && !(skipSpecialTokens && this.#specialIds.has(id));
  }

  #join(ids: ArrayLike<number>): Uint8Array {
    let length = 0;
    for (let i = 0; i < ids.length; i++) length += this.#bytes[ids[i]].length;
    const joined = new Uint8Array(length);
    let at = 0;
    for (let i = 0; i < ids.length; i++) {
      joined.set(this.#bytes[ids[i]], at);
      at += this.#bytes[ids[i]].length;
    }
    return joined;
  }

  #check(ids: ArrayLike<number>): void {
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      if (Number.isInteger(id) && id >= 0 && id < this.vocabSize) continue;
      throw new RangeError(`ids[${i}] must be an integer in [0, ${this.vocabSize}), got ${String(id)}`);
    }
  }
}
