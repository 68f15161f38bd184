import { createRequire } from 'node:module';

/** What of Hugging Face's tokenizers package is used; its own declarations don't resolve from a CommonJS module. */
export interface HuggingFace {
  /** Translates an expression of Oniguruma's (Ruby syntax, as `tokenizers` runs it) into one of JavaScript's. */
  SplitPreTokenizer: new (
    config: object,
  ) => { readonly pattern: RegExp };
}

let loaded: HuggingFace | undefined;

/** The package, loaded at the first expression: who brings token ids of their own never waits for it. */
export function huggingFace(): HuggingFace {
  loaded ??= createRequire(__filename)('@huggingface/tokenizers') as HuggingFace;
  return loaded;
}
