import { SgemoeError } from '../../base/errors';
import type { GenerationConfig } from '../generationConfig';
import { quoteName } from '../safetensorsHeader';
import { GgufFile } from './ggufFile';
import type { GgufHeader } from './header';
import { type GgufPreTokenizer, ggufPreTokenizer, PRE_TOKENIZER_NAMES } from './preTokenizers';
import { ggufSampling } from './sampling';
import { sentencePieceParts } from './sentencePiece';
import { TOKEN_KINDS } from './tokenKinds';

/** The tokens of a text's ends that the metadata names, by `tokenizer.ggml.<key>_token_id`, and their names for templates. */
const NAMED_TOKENS = {
  bos: 'bos_token',
  eos: 'eos_token',
  unknown: 'unk_token',
  padding: 'pad_token',
} as const;
/** Keys of tokens that end an answer: of text, turn and message. */
const END_KEYS = ['eos', 'eot', 'eom'] as const;
/** Control tokens that end an answer by their name, since files often name one of several. */
const END_NAMES = [
  '<|eot_id|>',
  '<|eom_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<EOT>',
];

/** A tokenizer in the form of `StoredTokenizer`. */
interface GgufTokenizer {
  tokenizer: Record<string, unknown> | null;
  tokenizerConfig?: Record<string, unknown> | undefined;
}

/** A GGUF's tokenizer, in the files that `transformers` would have for it. @throws SgemoeError SGEMOE_TOKENIZER_INVALID */
export async function readGgufTokenizer(path: string): Promise<GgufTokenizer> {
  const file = await GgufFile.open(path);
  try {
    return ggufTokenizer(file);
  } finally {
    await file.close();
  }
}

/**
 * The tokenizer in the metadata of a GGUF: `gpt2`, a byte-level BPE, or `llama`, SentencePiece's. Control and user-defined
 * tokens are added tokens, which are found in texts as a whole.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID, with its name, for another kind, an unknown pre-tokenizer, or damaged lists.
 */
export function ggufTokenizer(file: Pick<GgufHeader, 'metadata'> & { path: string }): GgufTokenizer {
  const values = new TokenizerValues(file);
  const kind = values.string('model', 'none');
  if (kind === 'none' || kind === 'no_vocab') return { tokenizer: null };
  if (kind !== 'gpt2' && kind !== 'llama')
    throw values.refused(`the tokenizer is of kind ${quoteName(kind)}; read are gpt2 and llama`);
  const vocabulary = readVocabulary(values);
  const { parts, addsBos } = kind === 'gpt2' ? bytePairs(values, vocabulary) : pieces(values, vocabulary);
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    ...parts,
    post_processor: around(values, vocabulary, addsBos),
  };
  return { tokenizer, tokenizerConfig: tokenizerConfig(values, vocabulary) };
}

export interface GgufTokenizerFacts {
  /** 'gpt2', 'llama' or another kind. */
  readonly kind: string;
  /** Name of the pre-tokenizer of 'gpt2'; null where there is none. */
  readonly pre: string | null;
  readonly tokens: number;
  readonly chatTemplate: boolean;
}

/** Facts about the tokenizer in a GGUF, even if sgemoe can't read it; null if the file has none. */
export function ggufTokenizerFacts(
  file: Pick<GgufHeader, 'metadata'> & { path: string },
): GgufTokenizerFacts | null {
  const values = new TokenizerValues(file);
  const kind = values.string('model', 'none');
  const tokens = values.get('tokens');
  if (!Array.isArray(tokens)) return null;
  const pre = values.get('pre') === undefined ? null : values.string('pre', '');
  return { kind, pre, tokens: tokens.length, chatTemplate: values.templates.length > 0 };
}

/** The end tokens and the sampling that a GGUF names, as a generation_config.json; null if it has none. */
export function ggufGenerationConfig(
  file: Pick<GgufHeader, 'metadata'> & { path: string },
): GenerationConfig | null {
  const values = new TokenizerValues(file);
  const named = END_KEYS.flatMap((key) => values.number(`${key}_token_id`) ?? []);
  const tokens = values.get('tokens');
  const types = values.get('token_type');
  const isControl = (id: number) => !isNumbers(types) || types[id] === TOKEN_KINDS.control;
  const found = Array.isArray(tokens)
    ? END_NAMES.map((name) => tokens.indexOf(name)).filter((id) => id >= 0 && isControl(id))
    : [];
  const ids = [...new Set([...named, ...found])];
  const config = { ...ggufSampling(file), ...withEnds(ids) };
  return Object.keys(config).length === 0 ? null : config;
}

function withEnds(ids: readonly number[]): GenerationConfig {
  return ids.length === 0 ? {} : { eos_token_id: ids.length === 1 ? ids[0] : ids };
}

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: ArrayLike<number>;
  /** The vocabulary as in tokenizer.json, without unused tokens. Ids after the last used one are never chosen. */
  readonly vocab: Readonly<Record<string, number>>;
}

interface Parts {
  readonly parts: Record<string, unknown>;
  readonly addsBos: boolean;
}

/** The values below `tokenizer.ggml.`, read with their types checked. */
class TokenizerValues {
  constructor(private readonly file: Pick<GgufHeader, 'metadata'> & { path: string }) {}

  get(key: string): unknown {
    return this.file.metadata.get(`tokenizer.ggml.${key}`);
  }

  /** The chat templates by name. */
  get templates(): { name: string; template: string }[] {
    const prefix = 'tokenizer.chat_template';
    return [...this.file.metadata].flatMap(([key, template]) => {
      if (typeof template !== 'string' || !key.startsWith(prefix)) return [];
      return key === prefix
        ? [{ name: 'default', template }]
        : key.startsWith(`${prefix}.`)
          ? [{ name: key.slice(prefix.length + 1), template }]
          : [];
    });
  }

  string(key: string, missing: string): string {
    const value = this.get(key) ?? missing;
    return typeof value === 'string' ? value : this.#wrong(key, 'a text');
  }

  boolean(key: string, missing: boolean): boolean {
    const value = this.get(key) ?? missing;
    return typeof value === 'boolean' ? value : this.#wrong(key, 'a truth value');
  }

  number(key: string): number | null {
    const value = this.get(key) ?? null;
    return value === null || typeof value === 'number' ? value : this.#wrong(key, 'a number');
  }

  strings(key: string): readonly string[] {
    const value = this.get(key);
    const isList = Array.isArray(value) && value.every((one) => typeof one === 'string');
    return isList ? value : this.#wrong(key, 'a list of texts');
  }

  /** A list with a number for each token. */
  numbers(key: string, count: number): ArrayLike<number> {
    const value = this.get(key);
    return isNumbers(value) && value.length === count
      ? value
      : this.#wrong(key, `a list of ${count} numbers`);
  }

  refused(what: string): SgemoeError {
    return new SgemoeError('SGEMOE_TOKENIZER_INVALID', `${this.file.path}: ${what}.`);
  }

  #wrong(key: string, expected: string): never {
    const value = this.get(key);
    const length = (value as { length?: unknown } | undefined)?.length;
    const got = typeof length === 'number' ? `${typeof value} of length ${length}` : typeof value;
    throw this.refused(`tokenizer.ggml.${key} must be ${expected}, got ${got}`);
  }
}

function isNumbers(value: unknown): value is ArrayLike<number> {
  const isBig = value instanceof BigInt64Array || value instanceof BigUint64Array;
  return ArrayBuffer.isView(value) && !isBig && !(value instanceof DataView);
}

function readVocabulary(values: TokenizerValues): Vocabulary {
  // As in llama.cpp, an empty token gets a name that no text makes.
  const tokens = values.strings('tokens').map((token, id) => token || `[EMPTY_${id}]`);
  const types =
    values.get('token_type') === undefined
      ? new Uint8Array(tokens.length).fill(TOKEN_KINDS.normal)
      : values.numbers('token_type', tokens.length);
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    const other = ids.get(token);
    if (other !== undefined)
      throw values.refused(`token ${quoteName(token)} stands there twice, as ${other} and as ${id}`);
    ids.set(token, id);
  }
  const used = Array.from(ids).filter(([, id]) => types[id] !== TOKEN_KINDS.unused);
  return { tokens, types, vocab: Object.fromEntries(used) };
}

function bytePairs(values: TokenizerValues, { vocab }: Vocabulary): Parts {
  const { preTokenizer, normalizer, ignoreMerges, addsBos } = preTokenizerOf(values);
  const parts = {
    normalizer,
    pre_tokenizer: preTokenizer,
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab,
      merges: values.strings('merges'),
    },
  };
  return { parts, addsBos };
}

function preTokenizerOf(values: TokenizerValues): GgufPreTokenizer {
  const name = values.string('pre', 'default');
  const found = ggufPreTokenizer(name);
  if (found !== undefined) return found;
  const known = PRE_TOKENIZER_NAMES.join(', ');
  throw values.refused(`the pre-tokenizer ${quoteName(name)} is not known; known are ${known}`);
}

function pieces(values: TokenizerValues, { tokens, types, vocab }: Vocabulary): Parts {
  const scores = values.numbers('scores', tokens.length);
  for (let id = 0; id < scores.length; id++) {
    if (Number.isNaN(scores[id])) throw values.refused(`the score of token ${id} is not a number`);
  }
  const unknown = tokens[values.number('unknown_token_id') ?? 0];
  const addsSpace = values.boolean('add_space_prefix', true);
  // Added tokens and bytes never result from merging.
  const isPiece = (id: number) => types[id] === TOKEN_KINDS.normal;
  const mergeable = tokens.map((token, id) => (isPiece(id) ? token : ''));
  return {
    parts: sentencePieceParts(mergeable, scores, vocab, unknown ?? null, addsSpace),
    addsBos: true,
  };
}

/** Control tokens and the unknown one are special; user-defined ones are text. */
function addedTokens({ tokens, types }: Vocabulary): object[] {
  return tokens.flatMap((content, id) => {
    const special = types[id] === TOKEN_KINDS.control || types[id] === TOKEN_KINDS.unknown;
    if (!special && types[id] !== TOKEN_KINDS.userDefined) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
}

/** The post-processor, which puts tokens around a text that is encoded with special tokens. */
function around(values: TokenizerValues, vocabulary: Vocabulary, addsBos: boolean): object | null {
  const bos = values.boolean('add_bos_token', addsBos) ? namedToken(values, vocabulary, 'bos') : null;
  const eos = values.boolean('add_eos_token', false) ? namedToken(values, vocabulary, 'eos') : null;
  if (bos === null && eos === null) return null;
  const special = (token: NamedToken | null) =>
    token === null ? [] : [{ SpecialToken: { id: token.content, type_id: 0 } }];
  const text = [{ Sequence: { id: 'A', type_id: 0 } }];
  const used = [bos, eos].filter((token) => token !== null);
  return {
    type: 'TemplateProcessing',
    single: [...special(bos), ...text, ...special(eos)],
    pair: [...special(bos), ...text, ...special(eos), { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: Object.fromEntries(
      used.map(({ id, content }) => [content, { id: content, ids: [id], tokens: [content] }]),
    ),
  };
}

interface NamedToken {
  id: number;
  content: string;
}

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for an id outside the vocabulary. */
function namedToken(
  values: TokenizerValues,
  { tokens }: Vocabulary,
  key: keyof typeof NAMED_TOKENS,
): NamedToken | null {
  const id = values.number(`${key}_token_id`);
  if (id === null) return null;
  if (tokens[id] !== undefined) return { id, content: tokens[id] };
  throw values.refused(
    `tokenizer.ggml.${key}_token_id ${id} lies outside the vocabulary of ${tokens.length}`,
  );
}

function tokenizerConfig(values: TokenizerValues, vocabulary: Vocabulary): Record<string, unknown> {
  const { templates } = values;
  const names = (Object.keys(NAMED_TOKENS) as (keyof typeof NAMED_TOKENS)[]).flatMap((key) => {
    const token = namedToken(values, vocabulary, key);
    return token === null ? [] : [[NAMED_TOKENS[key], token.content]];
  });
  const only = templates.length === 1 && templates[0].name === 'default';
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    ...Object.fromEntries(names),
    ...(templates.length > 0 && { chat_template: only ? templates[0].template : templates }),
  };
}
