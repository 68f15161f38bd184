import { TokenTrie, type TokenTrieData } from './tokenTrie';

/** A vocabulary as plain arrays on shared memory, which one thread makes and any number of threads read. */
export interface VocabularyData {
  /** The bytes of all tokens, one after the other; token i has lengths[i] of them from starts[i] on, -1 where it has none to be chosen by. */
  readonly bytes: Uint8Array;
  readonly starts: Int32Array;
  readonly lengths: Int32Array;
  readonly trie: TokenTrieData;
}

/** @param vocabulary the bytes of each token; null for one that no text has. */
export function packVocabulary(vocabulary: readonly (Uint8Array | null)[]): VocabularyData {
  const bytes = new Uint8Array(vocabulary.reduce((sum, each) => sum + (each?.length ?? 0), 0));
  const starts = new Int32Array(vocabulary.length);
  const lengths = new Int32Array(vocabulary.length);
  let at = 0;
  for (const [i, each] of vocabulary.entries()) {
    starts[i] = at;
    lengths[i] = each?.length ?? -1;
    if (each !== null) bytes.set(each, at);
    at += each?.length ?? 0;
  }
  const trie = TokenTrie.of(vocabulary);
  return {
    bytes: shared(Uint8Array, bytes),
    starts: shared(Int32Array, starts),
    lengths: shared(Int32Array, lengths),
    trie: {
      bytes: shared(Uint8Array, trie.bytes),
      depths: shared(Uint16Array, trie.depths),
      ends: shared(Int32Array, trie.ends),
      first: shared(Int32Array, trie.first),
      tokens: shared(Int32Array, trie.tokens),
      longest: trie.longest,
    },
  };
}

/** The bytes of a token, as a view; null for one that no text has. */
export function tokenBytesIn({ bytes, starts, lengths }: VocabularyData, token: number): Uint8Array | null {
  const length = lengths[token] ?? -1;
  return length < 0 ? null : bytes.subarray(starts[token], starts[token] + length);
}

function shared<T extends Uint8Array | Uint16Array | Int32Array>(
  Type: { new (memory: SharedArrayBuffer): T; readonly BYTES_PER_ELEMENT: number },
  values: T,
): T {
  const copy = new Type(new SharedArrayBuffer(values.length * Type.BYTES_PER_ELEMENT));
  copy.set(values);
  return copy;
}
