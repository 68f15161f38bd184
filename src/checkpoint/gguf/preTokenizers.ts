/**
 * How the text of a byte-level vocabulary is cut into words, by `tokenizer.ggml.pre`, as the settings of a tokenizer.json. The
 * names are llama.cpp's (src/llama-vocab.cpp); each was compared with it, or with Python's tokenizers where it only comes near.
 */
export interface GgufPreTokenizer {
  /** The pre-tokenizer of tokenizer.json. */
  readonly preTokenizer: object;
  readonly normalizer: object | null;
  /** Whether a word that is a token is taken whole, whatever the merges. */
  readonly ignoreMerges: boolean;
  /** Whether texts begin with the token for it, if the file doesn't say. */
  readonly addsBos: boolean;
}

const BYTES = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true };
const NFC = { type: 'NFC' };

const split = (pattern: string) => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
});
/** Cuts by each pattern in turn; with `byteLevel`'s own pattern last, or without one. */
const sequence = (patterns: readonly object[], useRegex = false) => ({
  type: 'Sequence',
  pretokenizers: [...patterns, { ...BYTES, use_regex: useRegex }],
});

const PLAIN = { normalizer: null, ignoreMerges: false, addsBos: false } as const;

/** GPT-2's words. */
const gpt2: GgufPreTokenizer = { ...PLAIN, preTokenizer: { ...BYTES, use_regex: true } };

/** GPT-2's words, with each digit apart. */
const digits: GgufPreTokenizer = {
  ...PLAIN,
  preTokenizer: sequence([{ type: 'Digits', individual_digits: true }], true),
};

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";
const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
/** The words of GPT-4's family; `numbers` says how many digits stand together. */
const modern = (numbers: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const llama3: GgufPreTokenizer = {
  ...PLAIN,
  preTokenizer: sequence([split(modern('\\p{N}{1,3}'))]),
  ignoreMerges: true,
  addsBos: true,
};

const qwen2: GgufPreTokenizer = { ...PLAIN, preTokenizer: sequence([split(modern('\\p{N}'))]) };

const MARKS = '\\p{Lm}\\p{Lo}\\p{M}';
/** Words of o200k's family, which end where capitals begin; `after` follows a word, `numbers` as in `modern`. */
const capitalised = (after: string, numbers: string) => {
  const [before, upper, lower] = ['[^\\r\\n\\p{L}\\p{N}]?', `[\\p{Lu}\\p{Lt}${MARKS}]`, `[\\p{Ll}${MARKS}]`];
  const words = `${before}${upper}*${lower}+${after}|${before}${upper}+${lower}*${after}`;
  return `${words}|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
};

/** Mistral's, from Nemo on. llama.cpp takes a capital for one of A to Z only, and marks for signs. */
const tekken: GgufPreTokenizer = {
  ...PLAIN,
  preTokenizer: sequence([split(capitalised('', '\\p{N}'))]),
  ignoreMerges: true,
  addsBos: true,
};

const gpt4o: GgufPreTokenizer = {
  ...PLAIN,
  preTokenizer: sequence([split(capitalised(`${CONTRACTIONS}?`, '\\p{N}{1,3}'))]),
};

const seedCoder: GgufPreTokenizer = {
  ...PLAIN,
  preTokenizer: sequence([
    split(
      `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
    ),
  ]),
};

/** The pre-tokenizer of files that name none. */
const fallback: GgufPreTokenizer = {
  ...PLAIN,
  preTokenizer: sequence(['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2, '\\p{N}+', '[0-9][0-9][0-9]'].map(split)),
};

const PRE_TOKENIZERS: ReadonlyMap<string, GgufPreTokenizer> = new Map(
  Object.entries({
    default: fallback,
    'gpt-2': gpt2,
    // The tokenizers of OLMo and Qwen compose characters first, which a GGUF doesn't say and llama.cpp doesn't do.
    olmo: { ...gpt2, normalizer: NFC },
    smollm: digits,
    starcoder: digits,
    refact: digits,
    'llama-bpe': llama3,
    llama3,
    'llama-v3': llama3,
    dbrx: { ...llama3, ignoreMerges: false, addsBos: false },
    'smaug-bpe': { ...llama3, ignoreMerges: false, addsBos: false },
    qwen2: { ...qwen2, normalizer: NFC },
    'deepseek-r1-qwen': qwen2,
    tekken,
    'gpt-4o': gpt4o,
    'seed-coder': seedCoder,
    falcon3: llama3,
    megrez: qwen2,
    mellum: gpt2,
    'a.x-4.0': gpt2,
    'minerva-7b': digits,
  }),
);

export const PRE_TOKENIZER_NAMES = [...PRE_TOKENIZERS.keys()];

/** The pre-tokenizer of this name; undefined for one that isn't known. */
export function ggufPreTokenizer(name: string): GgufPreTokenizer | undefined {
  return PRE_TOKENIZERS.get(name);
}

/**
 * The name of the pre-tokenizer that a byte-level tokenizer.json has; null if its words, its normalizer or its way with whole
 * words is none of those that have a name.
 */
export function preTokenizerName(json: Readonly<Record<string, unknown>>): string | null {
  const { ignore_merges: ignoreMerges = false } = json.model as { ignore_merges?: boolean };
  const wanted = fingerprint(json.pre_tokenizer, json.normalizer, ignoreMerges);
  for (const [name, { preTokenizer, normalizer, ignoreMerges: ignores }] of PRE_TOKENIZERS) {
    if (wanted !== null && fingerprint(preTokenizer, normalizer, ignores) === wanted) return name;
  }
  return null;
}

interface Stage {
  type?: string;
  pretokenizers?: Stage[];
  pattern?: { Regex?: string };
  behavior?: string;
  invert?: boolean;
  add_prefix_space?: boolean;
  use_regex?: boolean;
  individual_digits?: boolean;
}

/** The same text for the same words, however a file spells them; null for what no name stands for. */
function fingerprint(preTokenizer: unknown, normalizer: unknown, ignoreMerges: boolean): string | null {
  const form = (normalizer as Stage | null | undefined)?.type ?? null;
  const patterns = patternsOf((preTokenizer ?? {}) as Stage);
  if (patterns === null || (form !== null && form !== 'NFC')) return null;
  return JSON.stringify([form, ignoreMerges, patterns]);
}

/** The patterns that cut a text, one after the other; null for other stages. */
function patternsOf(stage: Stage): string[] | null {
  switch (stage.type) {
    case 'Sequence': {
      const all = (stage.pretokenizers ?? []).map(patternsOf);
      return all.every((patterns) => patterns !== null) ? all.flat() : null;
    }
    case 'ByteLevel':
      if (stage.add_prefix_space) return null;
      return stage.use_regex === false ? [] : [GPT2];
    case 'Digits':
      return stage.individual_digits ? ['\\p{N}'] : null;
    case 'Split': {
      if (stage.pattern?.Regex === undefined) return null;
      const regex = stage.pattern.Regex.replaceAll('\r', '\\r').replaceAll('\n', '\\n');
      // Leaving out what isn't matched is the same for patterns that match every text.
      const isWhole = regex.endsWith('|\\s+') && stage.behavior === 'Removed' && stage.invert;
      if (!isWhole && (stage.behavior !== 'Isolated' || stage.invert)) return null;
      // What no pattern matches is a word as well, so the last alternative, \s+, may be left out of GPT-2's.
      return [regex === `${GPT2}|\\s+` ? GPT2 : regex];
    }
    default:
      return null;
  }
}
