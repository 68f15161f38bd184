import { createRequire } from 'node:module';

/** What of Hugging Face's tokenizers package is used; its own declarations don't resolve from a CommonJS module. */
export interface HuggingFace {
  Tokenizer: new (tokenizer: object, config: object) => Engine;
  SplitPreTokenizer: new (config: object) => PreTokenizer;
  DigitsPreTokenizer: new (config: object) => PreTokenizer;
  ByteLevelPreTokenizer: new (config: object) => PreTokenizer & { readonly pattern: RegExp };
}

export interface Engine {
  readonly model: {
    readonly tokens_to_ids: ReadonlyMap<string, number>;
    /** With holes where an id isn't used. */
    readonly vocab: readonly (string | undefined)[];
    readonly unk_token_id?: number;
    /** The tokens of pre-tokenized words. */
    _call(words: readonly string[]): string[];
  };
  /** An id is undefined for a text without a token, where there is no token for that case. */
  encode(text: string, options?: { add_special_tokens?: boolean }): { ids: (number | undefined)[] };
  /** @throws Error for an empty array. */
  decode(ids: readonly number[], options?: { clean_up_tokenization_spaces?: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}

interface PreTokenizer {
  pre_tokenize_text(text: string): string[];
}

let loaded: HuggingFace | undefined;

/** The package, loaded at the first call: who brings token ids of their own never waits for it. */
export function huggingFace(): HuggingFace {
  loaded ??= createRequire(__filename)('@huggingface/tokenizers') as HuggingFace;
  return loaded;
}
