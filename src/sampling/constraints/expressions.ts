import { SgemoeError } from '../../base/errors';

/**
 * Expressions over bytes, the one form that regular expressions, GBNF grammars and JSON Schemas are read into. They form a
 * graph: rules may refer to themselves, and parts are shared.
 */
export type Expression = BytesOf | Sequence | Choice | Repeat | Rule | Leaf;

interface Base {
  readonly id: number;
}

/** One byte out of a set. */
export interface BytesOf extends Base {
  readonly kind: 'bytes';
  readonly set: ByteSet;
}

/** `first` followed by `rest`. */
export interface Sequence extends Base {
  readonly kind: 'sequence';
  readonly first: Expression;
  readonly rest: Expression;
}

export interface Choice extends Base {
  readonly kind: 'choice';
  readonly options: readonly Expression[];
}

/** `of`, `min` to `max` times; Infinity for no limit. */
export interface Repeat extends Base {
  readonly kind: 'repeat';
  readonly of: Expression;
  readonly min: number;
  readonly max: number;
}

/** A named expression; its body is set after it was made, so that it can refer to itself. */
export interface Rule extends Base {
  readonly kind: 'rule';
  readonly name: string;
  body: Expression;
}

/** Nothing ('empty'), no text at all ('never'), or the return from a rule, which stacks hold. */
export interface Leaf extends Base {
  readonly kind: 'empty' | 'never' | 'return';
}

/** A set of bytes; equal sets of one compilation are one object. */
export class ByteSet {
  constructor(private readonly members: Uint8Array) {}

  has(byte: number): boolean {
    return this.members[byte] === 1;
  }
}

/** The most expressions of one constraint. */
const MOST_EXPRESSIONS = 200_000;
const LAST_CODE_POINT = 0x10ffff;

/** Code points lo ..= hi. */
export type CodeRange = readonly [lo: number, hi: number];

/** Makes the expressions of one constraint, up to a limit, and shares equal sets and counted repetitions. */
export class Expressions {
  readonly empty: Leaf = { kind: 'empty', id: 0 };
  readonly never: Leaf = { kind: 'never', id: 1 };
  readonly return: Leaf = { kind: 'return', id: 2 };
  readonly rules: Rule[] = [];
  readonly sets: ByteSet[] = [];
  #count = 3;
  readonly #bySet = new Map<string, BytesOf>();
  /** The same by ranges, which are compared faster. */
  readonly #byRanges = new Map<string, BytesOf>();
  readonly #repeats = new Map<string, Repeat>();

  get count(): number {
    return this.#count;
  }

  /** A byte in lo ..= hi of one of the ranges. */
  bytes(...ranges: readonly CodeRange[]): BytesOf {
    const text = ranges.join();
    let known = this.#byRanges.get(text);
    if (known === undefined) {
      known = this.#bytesIn(ranges);
      this.#byRanges.set(text, known);
    }
    return known;
  }

  #bytesIn(ranges: readonly CodeRange[]): BytesOf {
    const members = new Uint8Array(256);
    for (const [lo, hi] of ranges) members.fill(1, lo, hi + 1);
    const key = String.fromCharCode(...members);
    let known = this.#bySet.get(key);
    if (known === undefined) {
      const set = new ByteSet(members);
      this.sets.push(set);
      known = { kind: 'bytes', id: this.#newId(), set };
      this.#bySet.set(key, known);
    }
    return known;
  }

  /** The UTF-8 of a text. */
  text(text: string): Expression {
    return this.sequenceOf(Array.from(Buffer.from(text, 'utf8'), (byte) => this.bytes([byte, byte])));
  }

  /** The UTF-8 of one character out of the ranges; surrogates are none. */
  character(ranges: readonly CodeRange[]): Expression {
    const sequences = normalise(ranges).flatMap(([lo, hi]) => utf8Sequences(lo, hi));
    // All that are one byte are one set, so that a step looks at one expression.
    const single = sequences.filter((each) => each.length === 1).map(([range]) => range);
    const longer = sequences.filter((each) => each.length > 1);
    return this.choice(
      ...(single.length === 0 ? [] : [this.bytes(...single)]),
      ...longer.map((each) => this.sequence(...each.map((range) => this.bytes(range)))),
    );
  }

  sequence(...parts: readonly Expression[]): Expression {
    return this.sequenceOf(parts);
  }

  /** As `sequence`, for so many parts that they can't be arguments of a call. */
  sequenceOf(parts: readonly Expression[]): Expression {
    let rest: Expression = this.empty;
    for (let i = parts.length - 1; i >= 0; i--) {
      const first = parts[i];
      if (first === this.empty) continue;
      rest = rest === this.empty ? first : { kind: 'sequence', id: this.#newId(), first, rest };
    }
    return rest;
  }

  choice(...options: readonly Expression[]): Expression {
    return this.choiceOf(options);
  }

  /** As `choice`, for so many options that they can't be arguments of a call. */
  choiceOf(options: readonly Expression[]): Expression {
    const distinct = [...new Set(options)].filter((each) => each !== this.never);
    if (distinct.length === 0) return this.never;
    return distinct.length === 1 ? distinct[0] : { kind: 'choice', id: this.#newId(), options: distinct };
  }

  /** `of` from `min` to `max` times. */
  repeat(of: Expression, min: number, max: number): Expression {
    if (max === 0 || of === this.empty) return this.empty;
    if (min === 1 && max === 1) return of;
    const key = `${of.id},${min},${max}`;
    let known = this.#repeats.get(key);
    if (known === undefined) {
      known = { kind: 'repeat', id: this.#newId(), of, min, max };
      this.#repeats.set(key, known);
    }
    return known;
  }

  optional(of: Expression): Expression {
    return this.repeat(of, 0, 1);
  }

  /** A rule whose body is set later: until then it matches nothing. */
  rule(name: string, body: Expression = this.never): Rule {
    const rule: Rule = { kind: 'rule', id: this.#newId(), name, body };
    this.rules.push(rule);
    return rule;
  }

  /** Takes over the expressions of another one, which have ids below `count`. */
  adopt(from: { count: number; rules: Rule[]; sets: ByteSet[]; repeats: Repeat[] }): void {
    this.#count = from.count;
    for (const rule of from.rules) this.rules.push(rule);
    for (const set of from.sets) this.sets.push(set);
    for (const each of from.repeats) this.#repeats.set(`${each.of.id},${each.min},${each.max}`, each);
  }

  #newId(): number {
    if (this.#count < MOST_EXPRESSIONS) return this.#count++;
    throw tooLarge(`it has more than ${MOST_EXPRESSIONS} parts`);
  }
}

/** The characters that ranges leave out. */
export function complement(ranges: readonly CodeRange[]): CodeRange[] {
  const rest: CodeRange[] = [];
  let next = 0;
  for (const [lo, hi] of normalise(ranges)) {
    if (lo > next) rest.push([next, lo - 1]);
    next = hi + 1;
  }
  if (next <= LAST_CODE_POINT) rest.push([next, LAST_CODE_POINT]);
  return rest;
}

/** The same characters as ranges in ascending order that don't touch. */
export function normalise(ranges: readonly CodeRange[]): CodeRange[] {
  const merged: [number, number][] = [];
  for (const [lo, hi] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last !== undefined && lo <= last[1] + 1) last[1] = Math.max(last[1], hi);
    else merged.push([lo, hi]);
  }
  return merged;
}

/** The code points that end a length of UTF-8, and the ends of the surrogates' gap. */
const CUTS = [0x7f, 0x7ff, 0xd7ff, 0xdfff, 0xffff, LAST_CODE_POINT];

/** The UTF-8 of lo ..= hi as sequences of ranges of bytes. */
function utf8Sequences(lo: number, hi: number): CodeRange[][] {
  const sequences: CodeRange[][] = [];
  let start = lo;
  for (const cut of CUTS) {
    const end = Math.min(hi, cut);
    if (start > end) continue;
    if (cut !== 0xdfff)
      addSequences(start, end, cut <= 0x7f ? 1 : cut <= 0x7ff ? 2 : cut <= 0xffff ? 3 : 4, sequences);
    start = end + 1;
  }
  return sequences;
}

/** Splits a range of one length until all bytes but the first differing one run over all that can follow. */
function addSequences(lo: number, hi: number, length: number, out: CodeRange[][]): void {
  for (let i = 1; i < length; i++) {
    const low = (1 << (6 * i)) - 1;
    if ((lo & ~low) === (hi & ~low)) continue;
    if ((lo & low) !== 0) {
      addSequences(lo, lo | low, length, out);
      addSequences((lo | low) + 1, hi, length, out);
      return;
    }
    if ((hi & low) !== low) {
      addSequences(lo, (hi & ~low) - 1, length, out);
      addSequences(hi & ~low, hi, length, out);
      return;
    }
  }
  const first = Buffer.from(String.fromCodePoint(lo), 'utf8');
  const last = Buffer.from(String.fromCodePoint(hi), 'utf8');
  out.push(Array.from(first, (byte, i) => [byte, last[i]] as const));
}

/** A constraint that can't be read or isn't supported. */
export function invalid(message: string): SgemoeError {
  return new SgemoeError('SGEMOE_CONSTRAINT_INVALID', message);
}

/** A constraint that is too large, or too ambiguous, to be followed in bounded time. */
export function tooLarge(why: string): SgemoeError {
  return new SgemoeError('SGEMOE_CONSTRAINT_LIMIT', `The constraint is too large: ${why}.`);
}
