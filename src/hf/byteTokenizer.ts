import { BYTE_CHARACTERS } from '../base/byteAlphabet';
import { PLAIN_BPE } from '../checkpoint/plainBpe';
import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';

/**
 * The files of a tokenizer in a form that Hugging Face's libraries read. The byte tokenizer, `{ "type": "byte" }`, which
 * they don't know, becomes a byte-level BPE without merges, whose ids are the bytes too. Other files stay as they are.
 */
export function forHuggingFace(files: Partial<TokenizerFiles>): Partial<TokenizerFiles> {
  const { tokenizer, tokenizerConfig } = files;
  if ((tokenizer as { type?: unknown } | undefined)?.type !== 'byte') return files;
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const bpe = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      ...PLAIN_BPE,
      vocab: Object.fromEntries(BYTE_CHARACTERS.map((each, byte) => [each, byte])),
      merges: [],
    },
  };
  const config = { tokenizer_class: 'PreTrainedTokenizerFast', clean_up_tokenization_spaces: false };
  return { ...files, tokenizer: bpe, tokenizerConfig: { ...config, ...tokenizerConfig } };
}
