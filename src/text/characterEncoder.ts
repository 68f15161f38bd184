import { isDeepStrictEqual } from 'node:util';
import { SgemoeError } from '../base/errors';
import { PLAIN_BPE } from '../checkpoint/plainBpe';
import { decodeUtf8 } from './utf8';

/** Cuts a text into its characters, one code point each, line ends too. */
export const CHARACTER_SPLIT = {
  type: 'Split',
  pattern: { Regex: '[\\s\\S]' },
  behavior: 'Isolated',
  invert: false,
} as const;

/** The options of the model in tokenizer.json: tokens are whole words, here characters, without an unknown token. */
export const CHARACTER_MODEL = { ...PLAIN_BPE, merges: [] } as const;

/** Encodes with the tokenizer of `trainCharacters`: a character is a token, and an unknown one is refused. */
export class CharacterEncoder {
  readonly #ids: ReadonlyMap<string, number>;

  private constructor(vocab: Readonly<Record<string, number>>) {
    this.#ids = new Map(Object.entries(vocab));
  }

  /** @param json content of tokenizer.json. @returns null for a tokenizer of another kind. */
  static create(json: object): CharacterEncoder | null {
    const parts = {
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      added_tokens: [],
    };
    const { normalizer, pre_tokenizer, post_processor, decoder, added_tokens, model } = {
      ...parts,
      ...(json as typeof parts & { model: { vocab: Record<string, number> } }),
    };
    const { vocab, ...settings } = model;
    const stages = { normalizer, pre_tokenizer, post_processor, decoder, added_tokens, model: settings };
    const ours = {
      ...parts,
      pre_tokenizer: CHARACTER_SPLIT,
      decoder: { type: 'Fuse' },
      model: CHARACTER_MODEL,
    };
    return isDeepStrictEqual(stages, ours) ? new CharacterEncoder(vocab) : null;
  }

  /** @throws SgemoeError SGEMOE_UNKNOWN_CHARACTER. Bytes that are not UTF-8 count as U+FFFD. */
  encode(bytes: Uint8Array): Int32Array {
    const text = decodeUtf8(bytes);
    const ids = new Int32Array(text.length);
    let length = 0;
    for (const character of text) ids[length++] = this.#ids.get(character) ?? this.#refuse(character);
    return ids.slice(0, length);
  }

  #refuse(character: string): never {
    const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
    throw new SgemoeError(
      'SGEMOE_UNKNOWN_CHARACTER',
      `The tokenizer does not know the character ${JSON.stringify(character)} (U+${code}), only the ` +
        `${this.#ids.size} of the text that it was made from.`,
    );
  }
}
