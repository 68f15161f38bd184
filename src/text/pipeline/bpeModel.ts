import { MaxHeap } from '../bpe/maxHeap';
import { invalid, type Settings, show } from './settings';
import {
  byteTokens,
  idsOfBytes,
  MOST_TOKENS,
  type Model,
  readUnknown,
  readVocabulary,
  tokensById,
} from './vocabulary';

/** Merges by their two tokens, as one number: left * MOST_TOKENS + right. */
type Merges = ReadonlyMap<number, { rank: number; id: number }>;

/**
 * Byte-pair encoding. A word begins as the tokens of its characters; then the mergeable neighbours with the lowest rank
 * merge, from the left, until none is left.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID for invalid settings.
 */
export function readBpe(settings: Settings): Model {
  const vocab = readVocabulary(settings);
  const prefix = settings.optionalString('continuing_subword_prefix') ?? '';
  const merges = readMerges(settings, vocab, prefix.length);
  const ignoreMerges = settings.boolean('ignore_merges', false);
  const charactersOf = characterReader(settings, vocab, prefix);
  if (settings.number('dropout', 0) !== 0)
    settings.refuse('dropout', 'null or 0, as encoding is not random here,');
  return {
    vocab,
    tokens: tokensById(vocab),
    encodeWord(word) {
      const whole = ignoreMerges ? vocab.get(word) : undefined;
      return whole === undefined ? mergeAll(charactersOf(word), merges) : [whole];
    },
  };
}

/**
 * The tokens of a word's characters. A character without a token becomes the unknown token, or is left out if there is
 * none.
 */
function characterReader(
  settings: Settings,
  vocab: ReadonlyMap<string, number>,
  prefix: string,
): (word: string) => number[] {
  const suffix = settings.optionalString('end_of_word_suffix') ?? '';
  const bytes = settings.boolean('byte_fallback', false) ? byteTokens(vocab) : [];
  const fuseUnknown = settings.boolean('fuse_unk', false);
  const unknown = settings.optionalString('unk_token') === null ? null : readUnknown(settings, vocab);
  return (word) => {
    const ids: number[] = [];
    const characters = [...word];
    let pending: number | null = null;
    for (const [i, character] of characters.entries()) {
      const start = i > 0 ? prefix + character : character;
      const text = i === characters.length - 1 ? start + suffix : start;
      const id = vocab.get(text);
      const fallback = id === undefined ? idsOfBytes(text, bytes) : null;
      if (id !== undefined) {
        if (pending !== null) ids.push(pending);
        pending = null;
        ids.push(id);
      } else if (fallback !== null) ids.push(...fallback);
      else if (unknown !== null) {
        if (pending !== null && !fuseUnknown) ids.push(pending);
        pending = unknown(text);
      }
    }
    if (pending !== null) ids.push(pending);
    return ids;
  };
}

/** Reads the merges, which are pairs or, in old files, texts "a b". */
function readMerges(settings: Settings, vocab: ReadonlyMap<string, number>, prefixLength: number): Merges {
  const merges = new Map<number, { rank: number; id: number }>();
  for (const [rank, value] of settings.array('merges').entries()) {
    const pair: unknown = typeof value === 'string' ? value.split(' ') : value;
    const isPair =
      Array.isArray(pair) && pair.length === 2 && pair.every((token) => typeof token === 'string');
    if (!isPair) throw invalid(`"model.merges[${rank}]" must be two tokens, got ${show(value)}`);
    const [left, right] = pair as [string, string];
    const [a, b, id] = [left, right, left + right.slice(prefixLength)].map((token) => vocab.get(token));
    if (a === undefined || b === undefined || id === undefined) {
      throw invalid(`"model.merges[${rank}]" has tokens outside the vocabulary: ${show(value)}`);
    }
    merges.set(a * MOST_TOKENS + b, { rank, id });
  }
  return merges;
}

/** Makes all merges in time O(n log n), with a heap of possible merges and a list of the remaining tokens. */
function mergeAll(ids: number[], merges: Merges): number[] {
  if (ids.length < 2) return ids;
  const next = Int32Array.from(ids, (_, i) => (i + 1 < ids.length ? i + 1 : -1));
  const previous = Int32Array.from(ids, (_, i) => i - 1);
  const heap = new MaxHeap();
  const mergeAt = (at: number) =>
    at < 0 || next[at] < 0 ? undefined : merges.get(ids[at] * MOST_TOKENS + ids[next[at]]);
  const offer = (at: number) => {
    const merge = mergeAt(at);
    if (merge !== undefined) heap.push(at, -merge.rank);
  };
  for (let i = 0; i + 1 < ids.length; i++) offer(i);
  for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
    const at = top.key;
    const merge = ids[at] < 0 ? undefined : mergeAt(at);
    // The entry is stale if one of its tokens has merged with another since.
    if (merge?.rank !== -top.count) continue;
    const right = next[at];
    ids[at] = merge.id;
    ids[right] = -1;
    next[at] = next[right];
    if (next[at] >= 0) previous[next[at]] = at;
    offer(at);
    offer(previous[at]);
  }
  return ids.filter((id) => id >= 0);
}
