import { BYTE_CHARACTERS } from '../../base/byteAlphabet';
import type { AddedToken } from './addedTokens';
import type { Settings } from './settings';
import { byteTokens, type Model } from './vocabulary';

/** Bytes of UTF-8 of a character. */
const MOST_CHARACTER_BYTES = 4;

/**
 * By how much normalizers shorten a text in UTF-8, at most. NFC makes one character of two bytes of at most three, of seven
 * bytes in all; of NFKC's, those of four bytes each. A text in lower case has no less than a third (the Kelvin sign).
 * Those that aren't listed may remove all of it.
 */
const MOST_SHRINK: Readonly<Record<string, number>> = {
  NFC: 4,
  NFD: 4,
  NFKC: 8,
  NFKD: 8,
  Lowercase: 3,
  Prepend: 1,
  ByteLevel: 1,
};

/** Pre-tokenizers that leave out what separates words. */
const REMOVING = ['Whitespace', 'WhitespaceSplit', 'BertPreTokenizer', 'CharDelimiterSplit'];

/**
 * The largest number of bytes of text, in UTF-8, that a token can stand for: a text of n bytes has at least n divided by it
 * tokens. Infinity where a stage may remove text, or one token may stand for any amount of unknown text.
 * @param settings of the whole tokenizer.json, which the pipeline has read without an error.
 */
export function mostBytesPerToken(
  settings: Settings,
  model: Model,
  added: readonly AddedToken[],
  byteLevel: boolean,
): number {
  if (added.some(({ lstrip, rstrip }) => lstrip || rstrip)) return Number.POSITIVE_INFINITY;
  const normalizer = settings.optionalObject('normalizer');
  const shrink = normalizer === null ? 1 : shrinkOf(normalizer);
  const preTokenizer = settings.optionalObject('pre_tokenizer');
  if (preTokenizer !== null && removes(preTokenizer)) return Number.POSITIVE_INFINITY;
  let most = bytesOfUnknown(settings.object('model'), model, byteLevel);
  for (const token of model.vocab.keys()) {
    most = Math.max(most, byteLevel ? token.length : Buffer.byteLength(token));
  }
  for (const { content } of added) most = Math.max(most, Buffer.byteLength(content));
  return shrink * most;
}

function shrinkOf(normalizer: Settings): number {
  const type = normalizer.string('type');
  if (type === 'Sequence') {
    return normalizer.objects('normalizers').reduce((product, each) => product * shrinkOf(each), 1);
  }
  if (type !== 'Replace') return MOST_SHRINK[type] ?? Number.POSITIVE_INFINITY;
  const pattern = normalizer.object('pattern');
  if (!pattern.has('String')) return Number.POSITIVE_INFINITY;
  const [from, to] = [pattern.string('String'), normalizer.string('content')].map((text) =>
    Buffer.byteLength(text),
  );
  return Math.max(1, from / to);
}

function removes(preTokenizer: Settings): boolean {
  const type = preTokenizer.string('type');
  if (type === 'Sequence') return preTokenizer.objects('pretokenizers').some(removes);
  return REMOVING.includes(type) || preTokenizer.string('behavior', '') === 'Removed';
}

/** Bytes of text without a token of its own that become one token: none where all bytes have tokens. */
function bytesOfUnknown(settings: Settings, { vocab }: Model, byteLevel: boolean): number {
  const isUnigram = settings.has('unk_id');
  if (!isUnigram && !settings.has('merges')) return Number.POSITIVE_INFINITY;
  if (byteLevel && BYTE_CHARACTERS.every((character) => vocab.has(character))) return 0;
  const hasBytes = settings.boolean('byte_fallback', false);
  if (hasBytes && byteTokens(vocab).every((id) => id !== undefined)) return 0;
  const keepsEach = !isUnigram && settings.optionalString('unk_token') !== null;
  return keepsEach && !settings.boolean('fuse_unk', false) ? MOST_CHARACTER_BYTES : Number.POSITIVE_INFINITY;
}
