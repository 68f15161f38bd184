import { bytesToCharacters } from '../../base/byteAlphabet';
import { readPattern, replaceMatches } from './patterns';
import { readPrecompiled } from './precompiled';
import type { Settings } from './settings';

/** Changes a text before it is cut into words. */
export type Normalize = (text: string) => string;

const UNICODE_FORMS = ['NFC', 'NFD', 'NFKC', 'NFKD'] as const;

/** Control characters that SentencePiece's NMT rules remove, followed by those that they turn into spaces. */
const NMT_REMOVED = /(?![\0\t\n\f\r\x80-\x8e\x90-\x9e])\p{Cc}/gu;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/gu;

/** The Chinese characters of BERT, which lack U+2B820 to U+2B91F. */
const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

/** The normalizers of `tokenizers` by `type`. */
const NORMALIZERS: Readonly<Record<string, (settings: Settings) => Normalize>> = {
  ...Object.fromEntries(UNICODE_FORMS.map((form) => [form, () => (text: string) => text.normalize(form)])),
  Lowercase: () => lowercase,
  StripAccents: () => (text) => text.replaceAll(/\p{M}/gu, ''),
  Nmt: () => (text) => text.replaceAll(NMT_REMOVED, '').replaceAll(NMT_SPACES, ' '),
  ByteLevel: () => (text) => bytesToCharacters(Buffer.from(text, 'utf8')),
  Strip: readStrip,
  BertNormalizer: readBert,
  Replace: readReplace,
  Prepend: readPrepend,
  Precompiled: (settings) => readPrecompiled(settings),
  Sequence: readSequence,
};

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for an unknown type or setting. */
export function readNormalizer(settings: Settings): Normalize {
  const type = settings.oneOf('type', Object.keys(NORMALIZERS));
  return NORMALIZERS[type](settings);
}

/** Lowercases character by character, so that a sigma at the end of a word isn't special. */
function lowercase(text: string): string {
  return text.replaceAll('Σ', 'σ').toLowerCase();
}

function readSequence(settings: Settings): Normalize {
  const normalizers = settings.objects('normalizers').map(readNormalizer);
  return (text) => normalizers.reduce((all, normalize) => normalize(all), text);
}

function readStrip(settings: Settings): Normalize {
  const left = settings.boolean('strip_left');
  const right = settings.boolean('strip_right');
  return (text) => {
    const start = left ? text.replace(/^\p{White_Space}+/u, '') : text;
    return right ? trimEnd(start) : start;
  };
}

/** Trims the end with a loop, since a regular expression would start anew at each space. */
function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && /\p{White_Space}/u.test(text[end - 1])) end--;
  return text.slice(0, end);
}

function readBert(settings: Settings): Normalize {
  const cleanText = settings.boolean('clean_text');
  const handleChineseChars = settings.boolean('handle_chinese_chars');
  const lower = settings.boolean('lowercase');
  const stripAccents = settings.optionalBoolean('strip_accents') ?? lower;
  return (text) => {
    let clean = cleanText ? cleanBert(text) : text;
    if (handleChineseChars) clean = clean.replaceAll(CHINESE, ' $& ');
    if (stripAccents) clean = clean.normalize('NFD').replaceAll(/\p{Mn}/gu, '');
    return lower ? lowercase(clean) : clean;
  };
}

function cleanBert(text: string): string {
  return text
    .replaceAll(/[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]/gu, '')
    .replaceAll(/\p{White_Space}/gu, ' ');
}

function readReplace(settings: Settings): Normalize {
  const pattern = readPattern(settings);
  const content = settings.string('content');
  return (text) => replaceMatches(text, pattern, content);
}

function readPrepend(settings: Settings): Normalize {
  const prefix = settings.string('prepend');
  return (text) => (text === '' ? '' : prefix + text);
}
