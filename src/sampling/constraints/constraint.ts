import { SgemoeError } from '../../base/errors';
import { Automaton, type State } from './automaton';
import { compileConstraint } from './compile';
import { type GrammarData, unpackGrammar } from './grammarData';
import { MaskTable } from './masks';
import type { ConstraintSource } from './options';
import { TokenTrie } from './tokenTrie';
import { tokenBytesIn, type VocabularyData } from './vocabularyData';

/** Automata and masks that a vocabulary keeps. */
const MOST_TABLES = 8;
/** Parts of constraints compiled elsewhere that it keeps, some 50 MB; the last ones always. */
const MOST_COMPILED_PARTS = 2 ** 21;

/** A constraint and its grammar as plain data. */
export interface CompiledConstraint {
  readonly source: ConstraintSource;
  readonly grammar: GrammarData;
}

/**
 * The bytes of a tokenizer's tokens, in the form that constraints need. It keeps the automata of the last constraints with
 * their masks, so make one for a tokenizer and hand it to all samplers of a thread.
 */
export class TokenVocabulary {
  #size: number;
  #bytesOf: (token: number) => Uint8Array | null;
  readonly #makeTrie: () => TokenTrie;
  #trie: TokenTrie | null = null;
  readonly #tables = new Map<string, MaskTable>();
  readonly #compiled = new Map<string, GrammarData>();

  /** @param bytes for each id, the bytes that its token adds to a text; null for one that adds none. `Tokenizer.tokenBytes` returns it. */
  constructor(bytes: readonly (Uint8Array | null)[]) {
    if (!Array.isArray(bytes) || !bytes.every((each) => each === null || each instanceof Uint8Array)) {
      throw new TypeError(
        'TokenVocabulary: bytes must be an array of Uint8Array or null, one for each token',
      );
    }
    this.#bytesOf = (token) => bytes[token] ?? null;
    this.#makeTrie = () => TokenTrie.of(bytes);
    this.#size = bytes.length;
  }

  /** A vocabulary that another thread has packed. */
  static packed(data: VocabularyData): TokenVocabulary {
    const vocabulary = new TokenVocabulary([]);
    vocabulary.#size = data.lengths.length;
    vocabulary.#bytesOf = (token) => tokenBytesIn(data, token);
    vocabulary.#trie = new TokenTrie(data.trie);
    return vocabulary;
  }

  get size(): number {
    return this.#size;
  }

  bytesOf(token: number): Uint8Array | null {
    return this.#bytesOf(token);
  }

  /** Takes a constraint that another thread has compiled, so that `tableOf` need not; the last ones are kept. */
  take({ source, grammar }: CompiledConstraint): void {
    const key = keyOf(source);
    this.#compiled.delete(key);
    this.#compiled.set(key, grammar);
    let parts = 0;
    for (const { kinds } of this.#compiled.values()) parts += kinds.length;
    for (const [oldest, { kinds }] of this.#compiled) {
      if (parts <= MOST_COMPILED_PARTS || oldest === key) break;
      this.#compiled.delete(oldest);
      parts -= kinds.length;
    }
  }

  /** @throws SgemoeError SGEMOE_CONSTRAINT_INVALID or SGEMOE_CONSTRAINT_LIMIT. */
  tableOf(source: ConstraintSource): MaskTable {
    const key = keyOf(source);
    let table = this.#tables.get(key);
    if (table === undefined) {
      const compiled = this.#compiled.get(key);
      const automaton = new Automaton(
        compiled === undefined ? compileConstraint(source) : unpackGrammar(compiled),
      );
      this.#trie ??= this.#makeTrie();
      table = new MaskTable(automaton, this.#trie, this.size);
    } else this.#tables.delete(key);
    // The last used one comes last.
    this.#tables.set(key, table);
    if (this.#tables.size > MOST_TABLES) this.#tables.delete(this.#tables.keys().next().value!);
    return table;
  }
}

function keyOf({ kind, text }: ConstraintSource): string {
  return `${kind}:${text}`;
}

/** Follows one text, and allows only tokens that keep it within a constraint. */
export class Constraint {
  readonly #table: MaskTable;
  readonly #ends: readonly number[];
  /** null after an end token. */
  #state: State | null;

  /** @param endTokens tokens that end the text: allowed exactly where it may end, and as nothing else. */
  constructor(
    source: ConstraintSource,
    private readonly vocabulary: TokenVocabulary,
    endTokens: readonly number[],
  ) {
    this.#table = vocabulary.tableOf(source);
    this.#state = this.#table.automaton.start;
    this.#ends = [...new Set(endTokens)];
  }

  /** Whether the text is complete, so that nothing but its end can follow. */
  get ended(): boolean {
    const { automaton } = this.#table;
    if (this.#state === null) return true;
    return automaton.steps(this.#state).length === 0;
  }

  /** Whether the text may end here. */
  get mayEnd(): boolean {
    return this.#state === null || this.#table.automaton.accepts(this.#state);
  }

  /**
   * Sets logits [0, n) of tokens that can't come next to -Infinity.
   * @throws SgemoeError SGEMOE_CONSTRAINT_STUCK when no token can, SGEMOE_CONSTRAINT_LIMIT.
   */
  apply(logits: Float32Array, n: number): void {
    const mask = this.#state === null ? null : this.#table.mask(this.#state);
    const ends = this.#ends.filter((token) => token < n);
    const kept = ends.map((token) => (this.mayEnd ? logits[token] : Number.NEGATIVE_INFINITY));
    let allowed = this.mayEnd ? ends.length : 0;
    for (const token of ends) if (mask !== null && has(mask, token)) allowed--;
    if (mask === null) logits.fill(Number.NEGATIVE_INFINITY, 0, n);
    else allowed += applyMask(mask, logits, n);
    for (const [i, token] of ends.entries()) logits[token] = kept[i];
    if (allowed === 0) {
      throw new SgemoeError(
        'SGEMOE_CONSTRAINT_STUCK',
        'No token of the vocabulary can follow the text within its constraint.',
      );
    }
  }

  /** Takes bytes that were chosen before; returns false, and is of no use any more, if they don't fit. */
  begin(bytes: Uint8Array): boolean {
    const { automaton } = this.#table;
    automaton.begin();
    this.#state = automaton.read(automaton.start, bytes);
    return this.#state !== null;
  }

  /** Takes a token. @throws RangeError for one that can't come here. */
  accept(token: number): void {
    if (this.#state === null) return;
    if (this.#ends.includes(token)) {
      this.#state = null;
      return;
    }
    const bytes = this.vocabulary.bytesOf(token);
    const { automaton } = this.#table;
    automaton.begin();
    this.#state = bytes && automaton.read(this.#state, bytes);
    if (this.#state === null) throw new RangeError(`token must fit the constraint, got ${token}`);
  }
}

/** Forbids the tokens whose bits are 0, and returns the number of the others. */
function applyMask(mask: Uint32Array, logits: Float32Array, n: number): number {
  let allowed = 0;
  for (let at = 0; at < n; at += 32) {
    const word = at >>> 5;
    const bits = word < mask.length ? mask[word] : 0;
    const end = Math.min(n, at + 32);
    if (bits === 0) {
      logits.fill(Number.NEGATIVE_INFINITY, at, end);
      continue;
    }
    for (let i = at; i < end; i++) {
      if (((bits >>> (i & 31)) & 1) === 1) allowed++;
      else logits[i] = Number.NEGATIVE_INFINITY;
    }
  }
  return allowed;
}

function has(mask: Uint32Array, token: number): boolean {
  return ((mask[token >>> 5] >>> (token & 31)) & 1) === 1;
}
