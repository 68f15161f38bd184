import { bytesToCharacters } from '../../base/byteAlphabet';
import { escapeRegExp, readPattern, SPLIT_BEHAVIORS, splitText } from './patterns';
import { invalid, type Settings } from './settings';

/**
 * The words of a text so far. `first` says whether the first word begins at the beginning of the text. The joined words are
 * the text, unless the tokenizer removes or adds spaces.
 */
export interface Words {
  readonly words: readonly string[];
  readonly first: boolean;
}

/** Cuts words further. */
export type PreTokenize = (cut: Words) => Words;

export interface PreTokenizer {
  readonly preTokenize: PreTokenize;
  /** Whether the words must still be turned into the byte alphabet, which is left to the cache of words. */
  readonly byteLevel: boolean;
  /** Whether it may put a space before a text. */
  readonly addsSpace: boolean;
}

/** GPT-2's pattern of words, with Unicode's white space: JavaScript's \s has U+FEFF and lacks U+0085. */
const GPT2_WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;
const WHITE_SPACE = /\p{White_Space}/gu;
/** \w+ and runs of other visible characters. */
const WORDS_OR_SIGNS =
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu;

type Split = (text: string) => string[];

/** The pre-tokenizers of `tokenizers` that only cut, by `type`. */
const SPLITS: Readonly<Record<string, (settings: Settings) => Split>> = {
  Split: readSplit,
  Whitespace: () => (text) => splitText(text, WORDS_OR_SIGNS, 'Removed', true),
  WhitespaceSplit: () => (text) => splitText(text, WHITE_SPACE, 'Removed'),
  BertPreTokenizer: () => (text) =>
    splitText(text, WHITE_SPACE, 'Removed').flatMap((word) => splitText(word, PUNCTUATION, 'Isolated')),
  Punctuation: (settings) => {
    const behavior = settings.oneOf('behavior', SPLIT_BEHAVIORS, 'Isolated');
    return (text) => splitText(text, PUNCTUATION, behavior);
  },
  Digits: (settings) => {
    const behavior = settings.boolean('individual_digits') ? 'Isolated' : 'Contiguous';
    return (text) => splitText(text, /\p{N}/gu, behavior);
  },
  CharDelimiterSplit: (settings) => {
    const delimiter = new RegExp(escapeRegExp(settings.character('delimiter')), 'gu');
    return (text) => splitText(text, delimiter, 'Removed');
  },
  FixedLength: (settings) => {
    const length = settings.integer('length', 1, 2 ** 31, 5);
    const chunk = new RegExp(`[\\s\\S]{1,${length}}`, 'gu');
    return (text) => text.match(chunk) ?? [];
  },
};

const TYPES = [...Object.keys(SPLITS), 'ByteLevel', 'Metaspace', 'Sequence'];

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for an unknown type or setting. */
export function readPreTokenizer(settings: Settings): PreTokenizer {
  const type = settings.oneOf('type', TYPES);
  if (type === 'Sequence') return readSequence(settings);
  if (type === 'ByteLevel') return readByteLevel(settings);
  if (type === 'Metaspace') return readMetaspace(settings);
  return { preTokenize: cutting(SPLITS[type](settings)), byteLevel: false, addsSpace: false };
}

function readSequence(settings: Settings): PreTokenizer {
  const stages = settings.objects('pretokenizers').map(readPreTokenizer);
  const last = stages.length - 1;
  const steps = stages.map(({ preTokenize, byteLevel }, i) =>
    byteLevel && i < last ? inByteAlphabet(preTokenize) : preTokenize,
  );
  return {
    preTokenize: (cut) => steps.reduce((so, step) => step(so), cut),
    byteLevel: stages.at(last)?.byteLevel ?? false,
    addsSpace: stages.some(({ addsSpace }) => addsSpace),
  };
}

function inByteAlphabet(preTokenize: PreTokenize): PreTokenize {
  return (cut) => {
    const { words, first } = preTokenize(cut);
    return { words: words.map((word) => bytesToCharacters(Buffer.from(word, 'utf8'))), first };
  };
}

function cutting(split: Split): PreTokenize {
  return ({ words, first }) => {
    const cut = words.length === 1 ? split(words[0]) : words.flatMap(split);
    return { words: cut, first: first && words.length > 0 && cut.length > 0 && words[0].startsWith(cut[0]) };
  };
}

function readSplit(settings: Settings): Split {
  const pattern = readPattern(settings);
  const behavior = settings.oneOf('behavior', SPLIT_BEHAVIORS);
  const invert = settings.boolean('invert', false);
  return (text) => splitText(text, pattern, behavior, invert);
}

function readByteLevel(settings: Settings): PreTokenizer {
  const addsSpace = settings.boolean('add_prefix_space');
  const useRegex = settings.boolean('use_regex', true);
  settings.boolean('trim_offsets', true); // It has no effect on ids.
  const preTokenize: PreTokenize = ({ words, first }) => {
    const spaced = addsSpace ? words.map((word) => (word.startsWith(' ') ? word : ` ${word}`)) : words;
    const cut = useRegex ? spaced.flatMap((word) => splitText(word, GPT2_WORDS, 'Isolated')) : spaced;
    return { words: cut, first };
  };
  return { preTokenize, byteLevel: true, addsSpace };
}

/** Where a Metaspace puts its sign: before every word, before the first of a text, or nowhere. */
export const PREPEND_SCHEMES = ['always', 'first', 'never'] as const;
export type PrependScheme = (typeof PREPEND_SCHEMES)[number];

/** The settings that the Metaspace pre-tokenizer and decoder share. */
export function readMetaspaceSettings(settings: Settings): { sign: string; scheme: PrependScheme } {
  const sign = settings.character('replacement', '▁');
  const given = settings.optionalBoolean('add_prefix_space');
  const scheme = settings.oneOf('prepend_scheme', PREPEND_SCHEMES, 'always');
  if (given === false && scheme !== 'never') {
    throw invalid(
      `"${settings.path}" has add_prefix_space false, which contradicts prepend_scheme "${scheme}"`,
    );
  }
  return { sign, scheme };
}

function readMetaspace(settings: Settings): PreTokenizer {
  const { sign, scheme } = readMetaspaceSettings(settings);
  const split = settings.boolean('split', true);
  const pattern = new RegExp(escapeRegExp(sign), 'gu');
  const preTokenize: PreTokenize = ({ words, first }) => {
    const marked = words.map((word, i) => {
      const text = word.replaceAll(' ', sign);
      const wanted = scheme === 'always' || (scheme === 'first' && first && i === 0);
      return wanted && !text.startsWith(sign) ? sign + text : text;
    });
    const cut = split ? marked.flatMap((word) => splitText(word, pattern, 'MergedWithNext')) : marked;
    return { words: cut, first };
  };
  return { preTokenize, byteLevel: false, addsSpace: scheme !== 'never' };
}
