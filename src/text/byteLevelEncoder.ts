import { BYTE_CHARACTERS, bytesToCharacters } from './byteAlphabet';
import type { Engine, HuggingFace } from './huggingFace';
import { cutPieces } from './pieces';
import { splitAtTokens } from './specialTokens';
import { utf8Segments } from './utf8';

/** What of a tokenizer.json decides how text becomes ids; Hugging Face's package knows the rest. */
export interface Pipeline {
  normalizer: { type?: string } | null;
  decoder: { type?: string } | null;
  pre_tokenizer: Stage | null;
  post_processor: object | null;
  added_tokens: readonly AddedToken[];
  model: { type?: string; vocab?: unknown; [setting: string]: unknown };
}

export interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
}

interface Stage {
  type?: string;
  add_prefix_space?: boolean;
  use_regex?: boolean;
  pretokenizers?: Stage[];
}

type Split = (words: string[]) => string[];

/** Longer words are rarely met again. */
const MOST_CACHED_UNITS = 64;
const MOST_CACHED_WORDS = 2 ** 17;

/**
 * Encodes with a byte-level BPE tokenizer piece by piece and remembers the ids of words, which most text repeats; words
 * it doesn't know go to Hugging Face's engine. The same ids as the engine gives for the whole text, tens of times faster
 * and in memory that does not grow with the text.
 */
export class ByteLevelEncoder {
  readonly #engine: Engine;
  readonly #split: Split;
  readonly #normalize: boolean;
  readonly #addedTokens: readonly string[];
  readonly #ids: ReadonlyMap<string, number>;
  readonly #cache = new Map<string, readonly number[]>();

  /** null for a tokenizer that works in another way: then only the engine knows how. */
  static create(package_: HuggingFace, engine: Engine, pipeline: Pipeline): ByteLevelEncoder | null {
    const { normalizer, added_tokens } = pipeline;
    const split = splitterOf(package_, pipeline.pre_tokenizer);
    const knownNormalizer = normalizer === null || normalizer.type === 'NFC';
    const isBpe = pipeline.model.type === 'BPE';
    const plain = added_tokens.every((token) => isPlain(token, normalizer !== null));
    if (split === null || !knownNormalizer || !isBpe || !plain) return null;
    return new ByteLevelEncoder(engine, split, normalizer !== null, added_tokens);
  }

  private constructor(engine: Engine, split: Split, normalize: boolean, added: readonly AddedToken[]) {
    this.#engine = engine;
    this.#split = split;
    this.#normalize = normalize;
    this.#addedTokens = added.map(({ content }) => content);
    this.#ids = new Map([
      ...engine.model.tokens_to_ids,
      ...added.map(({ content, id }) => [content, id] as const),
    ]);
  }

  /** Bytes that are not UTF-8 become the tokens of these bytes. */
  encode(bytes: Uint8Array): Int32Array {
    const ids = new IdList();
    for (const piece of cutPieces(bytes)) {
      for (const segment of utf8Segments(piece)) {
        if (typeof segment === 'string') this.#encodeText(segment, ids);
        else this.#encodeByte(segment, ids);
      }
    }
    return ids.toArray();
  }

  #encodeText(text: string, ids: IdList): void {
    for (const part of splitAtTokens(text, this.#addedTokens)) {
      if (part.token !== null) {
        ids.push(this.#ids.get(part.token)!);
        continue;
      }
      const normalized = this.#normalize ? part.text.normalize('NFC') : part.text;
      for (const word of this.#split([normalized])) for (const id of this.#encodeWord(word)) ids.push(id);
    }
  }

  #encodeByte(byte: number, ids: IdList): void {
    const id = this.#ids.get(BYTE_CHARACTERS[byte]);
    if (id !== undefined) ids.push(id);
    else for (const replacement of this.#encodeWord('\ufffd')) ids.push(replacement);
  }

  #encodeWord(word: string): readonly number[] {
    const cached = this.#cache.get(word);
    if (cached !== undefined) return cached;
    const model = this.#engine.model;
    const utf8 = Buffer.from(word, 'utf8');
    const tokens = model._call([bytesToCharacters(utf8)]);
    const ids = tokens.flatMap((token) => this.#ids.get(token) ?? model.unk_token_id ?? []);
    if (word.length <= MOST_CACHED_UNITS) {
      if (this.#cache.size >= MOST_CACHED_WORDS) this.#cache.clear();
      // A copy, because the word itself would keep the whole text it was cut from alive.
      this.#cache.set(utf8.toString('utf8'), ids);
    }
    return ids;
  }
}

/** Whether a token stands for its text alone, whatever is around it. */
function isPlain({ content, lstrip, rstrip, normalized, special }: AddedToken, normalizes: boolean): boolean {
  if (lstrip || rstrip || /\s/u.test(content)) return false;
  return !normalizes || !(normalized ?? !special) || /^[\x21-\x7e]*$/.test(content);
}

/** How words are found: by expressions, and by GPT-2's if the ByteLevel stage at the end asks for it. */
function splitterOf(package_: HuggingFace, preTokenizer: Stage | null): Split | null {
  const stages = preTokenizer?.type === 'Sequence' ? (preTokenizer.pretokenizers ?? []) : [preTokenizer];
  const last = stages.at(-1);
  if (last?.type !== 'ByteLevel' || last.add_prefix_space) return null;
  const splits: ((text: string) => string[])[] = [];
  for (const stage of stages.slice(0, -1)) {
    const split = splitOf(package_, stage);
    if (split === null) return null;
    splits.push(split);
  }
  if (last.use_regex !== false) {
    const { pattern } = new package_.ByteLevelPreTokenizer(last);
    splits.push((text) => text.match(pattern) ?? []);
  }
  return (words) =>
    splits.reduce((parts, split) => (parts.length === 1 ? split(parts[0]) : parts.flatMap(split)), words);
}

function splitOf(package_: HuggingFace, stage: Stage | null): ((text: string) => string[]) | null {
  if (stage?.type !== 'Split' && stage?.type !== 'Digits') return null;
  const preTokenizer =
    stage.type === 'Split' ? new package_.SplitPreTokenizer(stage) : new package_.DigitsPreTokenizer(stage);
  return (text) => preTokenizer.pre_tokenize_text(text);
}

/** A growing Int32Array. */
class IdList {
  #ids = new Int32Array(1024);
  #length = 0;

  push(id: number): void {
    if (this.#length === this.#ids.length) {
      const larger = new Int32Array(2 * this.#length);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#length++] = id;
  }

  toArray(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }
}
