/** The options of a BPE model in tokenizer.json beside vocabulary and merges, all off. */
export const PLAIN_BPE = {
  type: 'BPE',
  dropout: null,
  unk_token: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: false,
} as const;
