import { BYTE_CHARACTERS, bytesToCharacters } from '../../base/byteAlphabet';
import { IdList } from '../idList';
import { cutPieces } from '../pieces';
import { decodeUtf8, utf8Segments } from '../utf8';
import { type AddedToken, checkAddedIds, readAddedToken, TokenFinder } from './addedTokens';
import { type DecoderStage, isByteLevel, readDecoder } from './decoders';
import { mostBytesPerToken } from './density';
import { readModel } from './model';
import { type Normalize, readNormalizer } from './normalizers';
import { isPiecewise } from './piecewise';
import { type Around, readPostProcessor } from './postProcessors';
import { type PreTokenizer, readPreTokenizer } from './preTokenizers';
import { invalid, Settings } from './settings';
import { MOST_TOKENS, type Model } from './vocabulary';

/** The longest word, in UTF-16 units, whose ids are cached; longer words rarely occur again. */
const MOST_CACHED_UNITS = 64;
const MOST_CACHED_WORDS = 2 ** 17;

const NO_CUT: PreTokenizer = { preTokenize: (cut) => cut, byteLevel: false, addsSpace: false };

/**
 * Encodes text by a tokenizer.json, in the stages of Hugging Face's `tokenizers`: it finds added tokens, normalizes the text
 * between them, cuts it into words, and lets the model turn each word into ids. Ids of words are cached, since most text
 * repeats them.
 */
export class Pipeline {
  readonly model: Model;
  readonly addedTokens: readonly AddedToken[];
  /** Tokens by id, with holes for unused ids. Tokens that are found in normalized text are normalized. */
  readonly tokens: readonly (string | undefined)[];
  /** The ids that are put around a text if special tokens are wanted. */
  readonly around: Around;
  readonly decoder: readonly DecoderStage[];
  /** Whether decoding only turns the byte alphabet back into bytes. */
  readonly byteLevel: boolean;
  /** Whether a long text may be cut before spaces and encoded in pieces. */
  readonly piecewise: boolean;
  readonly mostBytesPerToken: number;
  readonly #normalize: Normalize | null;
  readonly #preTokenizer: PreTokenizer;
  /** Finds tokens in the text as it is; the next finder does so in the normalized text. */
  readonly #exact: TokenFinder;
  readonly #normalized: TokenFinder;
  readonly #cache = new Map<string, readonly number[]>();

  /** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for settings that `tokenizers` would refuse, or that aren't supported. */
  constructor(json: object) {
    const settings = new Settings(json, '');
    this.model = readModel(settings.object('model'));
    const added = settings.has('added_tokens') ? settings.objects('added_tokens') : [];
    this.addedTokens = added.map((token) => readAddedToken(token, MOST_TOKENS));
    checkAddedIds(this.addedTokens, this.model.vocab);
    const normalizer = settings.optionalObject('normalizer');
    this.#normalize = normalizer && readNormalizer(normalizer);
    const preTokenizer = settings.optionalObject('pre_tokenizer');
    this.#preTokenizer = preTokenizer === null ? NO_CUT : readPreTokenizer(preTokenizer);
    const postProcessor = settings.optionalObject('post_processor');
    this.around = postProcessor === null ? { before: [], after: [] } : readPostProcessor(postProcessor);
    const decoder = settings.optionalObject('decoder');
    this.decoder = readDecoder(decoder);
    this.byteLevel = isByteLevel(decoder);
    this.#exact = new TokenFinder(this.addedTokens.filter(({ normalized }) => !normalized));
    const inNormalized = this.addedTokens.filter(({ normalized }) => normalized);
    this.#normalized = new TokenFinder(inNormalized, this.#normalize ?? undefined);
    this.tokens = this.#tokensById();
    const normalizes = normalizer !== null;
    this.piecewise =
      (!normalizes || normalizer.string('type') === 'NFC') &&
      isPiecewise(this.#preTokenizer, this.addedTokens, normalizes);
    const { byteLevel } = this.#preTokenizer;
    this.mostBytesPerToken = mostBytesPerToken(settings, this.model, this.addedTokens, byteLevel);
  }

  /**
   * The ids of a text's bytes, without special tokens around it. Bytes that aren't UTF-8 become the tokens of these bytes if
   * tokens are bytes, else they count as U+FFFD. @param most ends it after the word with which there are more ids.
   */
  encode(bytes: Uint8Array, most = Number.POSITIVE_INFINITY): Int32Array {
    const ids = new IdList(most);
    for (const piece of this.piecewise ? cutPieces(bytes) : [bytes]) {
      for (const segment of this.#preTokenizer.byteLevel ? utf8Segments(piece) : [decodeUtf8(piece)]) {
        if (ids.full) break;
        if (typeof segment === 'string') this.#encodeText(segment, ids);
        else this.#encodeByte(segment, ids);
      }
    }
    return ids.toArray();
  }

  #tokensById(): (string | undefined)[] {
    const tokens = [...this.model.tokens];
    for (const { content, id, normalized } of this.addedTokens) {
      tokens[id] = normalized ? (this.#normalize?.(content) ?? content) : content;
    }
    if (tokens.length > 0 && tokens.length <= MOST_TOKENS) return tokens;
    throw invalid(`its ids must lie in [0, ${MOST_TOKENS})`);
  }

  #encodeText(text: string, ids: IdList): void {
    for (const part of this.#exact.split(text)) {
      if (part.id !== null) ids.push(part.id);
      else this.#encodeBetween(this.#normalize?.(part.text) ?? part.text, part.at === 0, ids);
    }
  }

  #encodeBetween(text: string, first: boolean, ids: IdList): void {
    for (const part of this.#normalized.split(text)) {
      if (part.id !== null) ids.push(part.id);
      else {
        const { words } = this.#preTokenizer.preTokenize({
          words: [part.text],
          first: first && part.at === 0,
        });
        for (const word of words) {
          if (ids.full) return;
          for (const id of this.#encodeWord(word)) ids.push(id);
        }
      }
    }
  }

  #encodeByte(byte: number, ids: IdList): void {
    const id = this.model.vocab.get(BYTE_CHARACTERS[byte]);
    if (id !== undefined) ids.push(id);
    else for (const replacement of this.#encodeWord('\ufffd')) ids.push(replacement);
  }

  #encodeWord(word: string): readonly number[] {
    const cached = this.#cache.get(word);
    if (cached !== undefined) return cached;
    const utf8 = Buffer.from(word, 'utf8');
    const ids = this.model.encodeWord(this.#preTokenizer.byteLevel ? bytesToCharacters(utf8) : word);
    if (word.length <= MOST_CACHED_UNITS) {
      if (this.#cache.size >= MOST_CACHED_WORDS) this.#cache.clear();
      // A copy, because the word itself would keep the whole text it was cut from alive.
      this.#cache.set(utf8.toString('utf8'), ids);
    }
    return ids;
  }
}
