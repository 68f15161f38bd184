import { TextDecoder } from 'node:util';
import { checkOptions } from '../base/checks';
import { SgemoeError } from '../base/errors';
import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import { charactersToBytes } from './byteAlphabet';
import { ByteLevelEncoder, type Pipeline } from './byteLevelEncoder';
import { CharacterEncoder } from './characterEncoder';
import { type ChatMessage, type ChatOptions, ChatTemplates, tokenContent } from './chatTemplate';
import { type Engine, huggingFace } from './huggingFace';
import { PrefixDecoder } from './prefixDecoder';
import type { DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer } from './tokenizer';
import { decodeUtf8 } from './utf8';

/** A file with higher ids is damaged: tables by id would fill the memory. */
const MOST_TOKENS = 2 ** 24;

/** Names of the token that ends a text, for files that don't say; the first that exists is taken. */
const END_OF_TEXT_NAMES = ['<|endoftext|>', '<|end_of_text|>', '</s>', '<eos>', '<|im_end|>'];

/** A way of encoding that is faster than the package's and gives the same ids. */
type Encoder = ByteLevelEncoder | CharacterEncoder;

/**
 * Any tokenizer that a tokenizer.json of Hugging Face's tokenizers libraries describes, run by their JavaScript package.
 *
 * With a byte-level one (GPT-2, OLMoE, Qwen, Granite, those of `trainBpe`) decoding gives exactly the bytes that were
 * encoded, unless the file asks for a normalisation (Qwen: NFC) or a space in front; with one of `trainCharacters` exactly
 * the text. Nothing is cleaned up on decoding, whatever the configuration says.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly type = 'huggingface';
  readonly vocabSize: number;
  readonly endOfText: number | null;
  readonly piecewise: boolean;
  readonly hasChatTemplate: boolean;
  /** Whether ids stand for bytes, so that decoding is lossless and streams byte by byte. */
  readonly byteLevel: boolean;
  /** Tokens outside the text's own, by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;

  readonly #json: Record<string, unknown>;
  readonly #files: Omit<TokenizerFiles, 'tokenizer'>;
  readonly #engine: Engine;
  readonly #encoder: Encoder | null;
  readonly #chat: ChatTemplates;
  readonly #specialIds: ReadonlySet<number>;
  /** Bytes of each token; empty unless byteLevel. */
  readonly #bytes: readonly Uint8Array[];
  #around: { before: Int32Array; after: Int32Array } | undefined;

  /**
   * @param json parsed content of tokenizer.json; not copied.
   * @param files what stands beside it.
   * @throws SgemoeError SGEMOE_TOKENIZER_INVALID when the package can't read it.
   */
  constructor(json: object, files: Omit<TokenizerFiles, 'tokenizer'> = {}) {
    const config = (files.tokenizerConfig ?? {}) as Record<string, unknown>;
    const pipeline = pipelineOf(json);
    this.#json = json as Record<string, unknown>;
    this.#files = files;
    this.#chat = new ChatTemplates(config, files.chatTemplate);
    this.hasChatTemplate = this.#chat.count > 0;
    const special = pipeline.added_tokens.filter((token) => token.special === true);
    this.specialTokens = new Map(special.map(({ content, id }) => [content, id]));
    this.#specialIds = new Set(special.map(({ id }) => id));
    [this.#engine, this.#encoder] = createEngine(pipeline, config);
    this.piecewise = this.#encoder !== null;
    this.vocabSize = this.#engine.model.vocab.length;
    this.#bytes = byteTable(this.#engine, this.#encoder, pipeline);
    this.byteLevel = this.#bytes.length > 0;
    this.endOfText = this.#findEndOfText(tokenContent(config.eos_token));
  }

  encode(text: string | Uint8Array, options: EncodeOptions = {}): Int32Array {
    checkOptions('encode', options, ['addSpecialTokens']);
    const ids = this.#encodeAlone(text);
    if (options.addSpecialTokens !== true) return ids;
    this.#around ??= this.#findAround();
    const { before, after } = this.#around;
    return Int32Array.from([...before, ...ids, ...after]);
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    checkOptions('decode', options, ['skipSpecialTokens']);
    this.#check(ids);
    const kept = Array.from(ids).filter((id) => this.#isShown(id, options));
    if (this.byteLevel) return newUtf8Decoder().decode(this.#join(kept));
    return kept.length === 0 ? '' : this.#engine.decode(kept, { clean_up_tokenization_spaces: false });
  }

  decodeBytes(ids: ArrayLike<number>): Uint8Array {
    if (!this.byteLevel) return new TextEncoder().encode(this.decode(ids));
    this.#check(ids);
    return this.#join(ids);
  }

  countBytes(ids: ArrayLike<number>): number {
    if (!this.byteLevel) return Buffer.byteLength(this.decode(ids, { skipSpecialTokens: true }));
    this.#check(ids);
    let sum = 0;
    for (let i = 0; i < ids.length; i++) if (!this.#specialIds.has(ids[i])) sum += this.#bytes[ids[i]].length;
    return sum;
  }

  createDecoder(options: DecodeOptions = {}): StreamDecoder {
    checkOptions('createDecoder', options, ['skipSpecialTokens']);
    if (!this.byteLevel) return new PrefixDecoder((ids) => this.decode(ids, options));
    const utf8 = newUtf8Decoder();
    return {
      push: (id) => {
        this.#check([id]);
        return this.#isShown(id, options) ? utf8.decode(this.#bytes[id], { stream: true }) : '';
      },
      flush: () => utf8.decode(),
    };
  }

  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatOptions): string {
    return this.#chat.render(messages, options);
  }

  /** The id of a token's string as tokenizer.json writes it ('Ġthe'), undefined when there is none. */
  tokenToId(token: string): number | undefined {
    return this.#engine.token_to_id(token);
  }

  /** The string of a token as tokenizer.json writes it, undefined for an id that isn't used. */
  idToToken(id: number): string | undefined {
    return this.#engine.id_to_token(id);
  }

  toJSON(): Record<string, unknown> {
    return this.#json;
  }

  files(): TokenizerFiles {
    const { tokenizerConfig, chatTemplate } = this.#files;
    return { tokenizer: this.#json, tokenizerConfig, chatTemplate };
  }

  #encodeAlone(text: string | Uint8Array): Int32Array {
    if (typeof text !== 'string' && !(text instanceof Uint8Array)) {
      throw new TypeError(`text must be a string or a Uint8Array, got ${typeof text}`);
    }
    // By way of bytes, which also turns lone surrogates into U+FFFD.
    const bytes = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
    if (this.#encoder !== null) return this.#encoder.encode(bytes);
    return idsOf(this.#engine.encode(decodeUtf8(bytes), { add_special_tokens: false }));
  }

  /** What the post-processor puts around a text. */
  #findAround(): { before: Int32Array; after: Int32Array } {
    const probe = 'a';
    const alone = idsOf(this.#engine.encode(probe, { add_special_tokens: false }));
    const all = idsOf(this.#engine.encode(probe));
    const extra = all.length - alone.length;
    let before = 0;
    while (before < extra && !alone.every((id, i) => all[before + i] === id)) before++;
    return {
      before: all.slice(0, before),
      after: all.slice(before + alone.length),
    };
  }

  #findEndOfText(name: string | null): number | null {
    const names = name === null ? END_OF_TEXT_NAMES : [name];
    for (const each of names) {
      const id = this.#engine.token_to_id(each);
      if (id !== undefined) return id;
    }
    return null;
  }

  #isShown(id: number, { skipSpecialTokens = false }: DecodeOptions): boolean {
    return this.#engine.id_to_token(id) !== undefined && !(skipSpecialTokens && this.#specialIds.has(id));
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

function idsOf({ ids }: { ids: (number | undefined)[] }): Int32Array {
  return Int32Array.from(ids.filter((id) => id !== undefined));
}

/** The parts of tokenizer.json that this library looks at; those that are left out are null. */
function pipelineOf(json: object): Pipeline {
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  const pipeline = { ...parts, added_tokens: [], ...json } as Partial<Pipeline>;
  const { model, added_tokens: added } = pipeline;
  if (typeof model !== 'object' || model === null) throw invalid('"model" must be an object');
  if (typeof model.vocab !== 'object' || model.vocab === null) throw invalid('"model" must have a "vocab"');
  if (!Array.isArray(added)) throw invalid('"added_tokens" must be a list');
  for (const { content, id } of added) {
    if (typeof content === 'string' && content !== '' && Number.isSafeInteger(id) && id >= 0) continue;
    throw invalid(
      `"added_tokens" must have a content and an id each, got ${JSON.stringify({ content, id })}`,
    );
  }
  return pipeline as Pipeline;
}

function createEngine(pipeline: Pipeline, config: Record<string, unknown>): [Engine, Encoder | null] {
  try {
    const package_ = huggingFace();
    const engine = new package_.Tokenizer(pipeline, config);
    const { length } = engine.model.vocab;
    if (length === 0 || length > MOST_TOKENS) throw new Error(`its ids must lie in [0, ${MOST_TOKENS})`);
    return [engine, ByteLevelEncoder.create(package_, engine, pipeline) ?? CharacterEncoder.create(pipeline)];
  } catch (cause) {
    throw invalid((cause as Error).message, cause);
  }
}

/**
 * The bytes of each token of a byte-level or character tokenizer, none for an id that isn't used; empty for another
 * tokenizer.
 */
function byteTable(
  engine: Engine,
  encoder: Encoder | null,
  { decoder, added_tokens }: Pipeline,
): Uint8Array[] {
  const utf8 = new TextEncoder();
  const isCharacters = encoder instanceof CharacterEncoder;
  if (decoder?.type !== 'ByteLevel' && !isCharacters) return [];
  const bytesOf = isCharacters ? (token: string) => utf8.encode(token) : charactersToBytes;
  const added = new Map(added_tokens.map(({ id, content }) => [id, content]));
  const table: Uint8Array[] = [];
  for (let id = 0; id < engine.model.vocab.length; id++) {
    const content = added.get(id);
    const bytes = content === undefined ? bytesOf(engine.id_to_token(id) ?? '') : utf8.encode(content);
    if (bytes === null) return [];
    table.push(bytes);
  }
  return table;
}

// ignoreBOM keeps a leading U+FEFF in the text: decoding drops nothing.
function newUtf8Decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true });
}

function invalid(message: string, cause?: unknown): SgemoeError {
  return new SgemoeError('SGEMOE_TOKENIZER_INVALID', `tokenizer.json can not be used: ${message}.`, {
    cause,
  });
}
