/** A trie's arrays. */
export interface TokenTrieData {
  readonly bytes: Uint8Array;
  readonly depths: Uint16Array;
  readonly ends: Int32Array;
  readonly first: Int32Array;
  readonly tokens: Int32Array;
  readonly longest: number;
}

/** The bytes of a vocabulary's tokens as a tree: the tokens that begin alike share the way. */
export class TokenTrie implements TokenTrieData {
  /** Nodes in depth-first order: the byte that leads to each, its depth (from 1), and the first node behind its subtree. */
  readonly bytes: Uint8Array;
  readonly depths: Uint16Array;
  readonly ends: Int32Array;
  /** The tokens of node n are tokens[first[n] .. first[n + 1]). */
  readonly first: Int32Array;
  readonly tokens: Int32Array;
  /** The most bytes of a token. */
  readonly longest: number;

  constructor({ bytes, depths, ends, first, tokens, longest }: TokenTrieData) {
    this.bytes = bytes;
    this.depths = depths;
    this.ends = ends;
    this.first = first;
    this.tokens = tokens;
    this.longest = longest;
  }

  /** @param vocabulary the bytes of each token; null, or no bytes, for one that no text has. */
  static of(vocabulary: readonly (Uint8Array | null)[]): TokenTrie {
    const texts: { text: string; id: number }[] = [];
    for (const [id, bytes] of vocabulary.entries()) {
      if (bytes !== null && bytes.length > 0 && bytes.length <= MOST_TOKEN_BYTES) {
        texts.push({ text: Buffer.from(bytes).toString('latin1'), id });
      }
    }
    texts.sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : a.id - b.id));
    const count = countNodes(texts);
    const trie = new TokenTrie({
      bytes: new Uint8Array(count),
      depths: new Uint16Array(count),
      ends: new Int32Array(count),
      first: new Int32Array(count + 1),
      tokens: Int32Array.from(texts, ({ id }) => id),
      longest: texts.reduce((most, { text }) => Math.max(most, text.length), 0),
    });
    trie.#fill(texts);
    return trie;
  }

  get size(): number {
    return this.bytes.length;
  }

  #fill(texts: readonly { text: string }[]): void {
    const open: number[] = [];
    let node = 0;
    let before = '';
    for (const [i, { text }] of texts.entries()) {
      const shared = commonLength(before, text);
      while (open.length > shared) this.ends[open.pop()!] = node;
      for (let at = shared; at < text.length; at++) {
        this.bytes[node] = text.charCodeAt(at);
        this.depths[node] = at + 1;
        this.first[node] = i;
        open.push(node++);
      }
      before = text;
    }
    for (const each of open) this.ends[each] = node;
    this.first[node] = texts.length;
  }
}

/** Tokens that are longer are never chosen. */
const MOST_TOKEN_BYTES = 4096;

function countNodes(texts: readonly { text: string }[]): number {
  let count = 0;
  let before = '';
  for (const { text } of texts) {
    count += text.length - commonLength(before, text);
    before = text;
  }
  return count;
}

function commonLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let n = 0;
  while (n < most && a.charCodeAt(n) === b.charCodeAt(n)) n++;
  return n;
}
