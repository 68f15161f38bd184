import type { Automaton, State } from './automaton';
import type { TokenTrie } from './tokenTrie';

/** Bytes of masks that an automaton keeps. */
const MOST_MASK_BYTES = 8 * 2 ** 20;

/** What a state allows without the stacks below its rules. */
interface LocalMask {
  mask: Uint32Array;
  /** Nodes of the trie, in order, at which the rules may have ended; what follows there depends on the stacks. */
  open: readonly number[];
}

/**
 * The tokens that each state of an automaton allows, as bits: bit (i & 31) of word (i >> 5) is token i. Most tokens don't
 * depend on what lies deep in the stacks: they are looked up once for all states that agree in the running rules (Dong et
 * al. 2024), and only tokens that go beyond the end of a rule are looked up for each state.
 */
export class MaskTable {
  readonly #words: number;
  #masks = new Map<State, Uint32Array>();
  #locals = new Map<State, LocalMask>();
  #generation = 0;
  #bytes = 0;
  /** States by depth of the node that is walked. */
  readonly #path: State[] = [];

  constructor(
    readonly automaton: Automaton,
    private readonly trie: TokenTrie,
    vocabSize: number,
  ) {
    this.#words = (vocabSize + 31) >>> 5;
  }

  /** The mask of a state, which must not be changed. @throws SgemoeError SGEMOE_CONSTRAINT_LIMIT. */
  mask(state: State): Uint32Array {
    this.automaton.begin();
    if (this.#bytes > MOST_MASK_BYTES || this.#generation !== this.automaton.generation) this.#forget();
    return this.#maskOf(state);
  }

  #maskOf(state: State): Uint32Array {
    const known = this.#masks.get(state);
    if (known !== undefined) return known;
    const { local, base } = this.automaton.cut(state, this.trie.longest);
    const { mask: inner, open } = this.#localOf(local);
    const mask = inner.slice();
    if (base !== null && base !== state) {
      for (const node of open) this.#walk(node + 1, this.trie.ends[node], base, mask, null);
      if (this.automaton.accepts(local) && base.frames.length > 0) {
        const rest = this.#maskOf(base);
        for (let i = 0; i < mask.length; i++) mask[i] |= rest[i];
      }
    }
    this.#masks.set(state, mask);
    this.#bytes += mask.byteLength;
    return mask;
  }

  #localOf(local: State): LocalMask {
    let known = this.#locals.get(local);
    if (known === undefined) {
      const open: number[] = [];
      known = { mask: new Uint32Array(this.#words), open };
      this.#walk(0, this.trie.size, local, known.mask, open);
      this.#locals.set(local, known);
      this.#bytes += known.mask.byteLength + 8 * open.length;
    }
    return known;
  }

  /**
   * Sets the bits of the tokens in nodes [from, end), siblings and what is below them, that a state allows.
   * @param open receives the nodes at which the text may end, and on which others follow.
   */
  #walk(from: number, end: number, state: State, mask: Uint32Array, open: number[] | null): void {
    if (from >= end) return;
    const { bytes, depths, ends, first, tokens } = this.trie;
    const { automaton } = this;
    const { classOf } = automaton;
    const path = this.#path;
    path[depths[from] - 1] = state;
    for (let node = from; node < end; ) {
      const depth = depths[node];
      const before = path[depth - 1];
      const byteClass = classOf[bytes[node]];
      const after = before.next?.[byteClass];
      const next = after === undefined ? automaton.next(before, byteClass) : after;
      if (next === null) {
        node = ends[node];
        continue;
      }
      path[depth] = next;
      for (let i = first[node]; i < first[node + 1]; i++) mask[tokens[i] >>> 5] |= 1 << (tokens[i] & 31);
      if (open !== null && ends[node] > node + 1 && automaton.accepts(next)) open.push(node);
      node++;
    }
  }

  #forget(): void {
    this.#masks = new Map();
    this.#locals = new Map();
    this.#bytes = 0;
    this.#generation = this.automaton.generation;
  }
}
