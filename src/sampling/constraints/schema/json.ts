import {
  type CodeRange,
  complement,
  type Expression,
  type Expressions,
  normalise,
  tooLarge,
} from '../expressions';
import { Numbers } from './numbers';

/** Spaces and tabs that may follow a line break. */
const MOST_INDENT = 20;
/** Code units of a name that others must differ from. */
const MOST_NAME = 500;
/** Characters that a JSON string can't have as they are. */
const ESCAPED: readonly CodeRange[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const SHORT_ESCAPES = new Map([
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [0x08, '\\b'],
  [0x0c, '\\f'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x09, '\\t'],
]);

/** The parts of JSON texts, each in the forms that models write: blanks are few, and no number runs on. */
export class JsonTexts {
  readonly numbers: Numbers;
  /** Blanks after '{', '[' and ',' and before '}' and ']': none, a space, or a line break and its indent. */
  readonly gap: Expression;
  readonly comma: Expression;
  readonly colon: Expression;
  readonly boolean: Expression;
  readonly null: Expression;
  /** A character of a string. */
  readonly character: Expression;
  readonly #value: Expression;

  constructor(private readonly make: Expressions) {
    this.numbers = new Numbers(make);
    const indent = make.repeat(make.bytes([0x20, 0x20], [0x09, 0x09]), 0, MOST_INDENT);
    this.gap = make.optional(make.choice(make.text(' '), make.sequence(make.text('\n'), indent)));
    this.comma = make.sequence(make.text(','), this.gap);
    this.colon = make.sequence(make.text(':'), make.optional(make.text(' ')));
    this.boolean = make.choice(make.text('true'), make.text('false'));
    this.null = make.text('null');
    this.character = this.#anyCharacter();
    const value = make.rule('value');
    this.#value = value;
    value.body = make.choice(
      this.object(make.sequence(this.key(), this.colon, value), 0, Number.POSITIVE_INFINITY),
      this.array(value, 0, Number.POSITIVE_INFINITY),
      this.string(make.repeat(this.character, 0, Number.POSITIVE_INFINITY)),
      make.rule('number', this.numbers.any()),
      this.boolean,
      this.null,
    );
  }

  /** Any JSON value. */
  get value(): Expression {
    return this.#value;
  }

  /** A value in JSON's shortest form. */
  literal(value: unknown): Expression {
    return this.make.text(JSON.stringify(value));
  }

  /** A string of these characters. */
  string(characters: Expression): Expression {
    const quote = this.make.text('"');
    return this.make.rule('string', this.make.sequence(quote, characters, quote));
  }

  /** A name of a member that is none of these. */
  key(others: readonly string[] = []): Expression {
    return this.string(this.#unlike(others));
  }

  /** An object of `least` to `most` members that all look alike. */
  object(member: Expression, least: number, most: number): Expression {
    return this.#list('{', member, least, most, '}');
  }

  /** An array of `least` to `most` items. */
  array(item: Expression, least: number, most: number): Expression {
    return this.#list('[', item, least, most, ']');
  }

  #list(open: string, item: Expression, least: number, most: number, close: string): Expression {
    const { make } = this;
    const others = make.repeat(make.sequence(this.comma, item), Math.max(0, least - 1), most - 1);
    const some = most === 0 ? make.never : make.sequence(this.gap, item, others, this.gap);
    const none = least === 0 ? make.empty : make.never;
    const inner = make.choice(none, some);
    return inner === make.never ? inner : make.sequence(make.text(open), inner, make.text(close));
  }

  /** A character out of the ranges, escaped where a string must. */
  encode(ranges: readonly CodeRange[]): Expression {
    const { make } = this;
    const options: Expression[] = [];
    const plain: CodeRange[] = [];
    for (const [lo, hi] of normalise(ranges)) {
      for (const [from, to] of complement(ESCAPED)) {
        if (Math.max(lo, from) <= Math.min(hi, to)) plain.push([Math.max(lo, from), Math.min(hi, to)]);
      }
      for (let code = lo; code <= Math.min(hi, 0x5c); code++) {
        if (!ESCAPED.some(([from, to]) => code >= from && code <= to)) continue;
        const written = SHORT_ESCAPES.get(code) ?? `\\u00${code.toString(16).padStart(2, '0')}`;
        options.push(make.text(written));
      }
    }
    return make.choice(make.character(plain), ...options);
  }

  #anyCharacter(): Expression {
    const { make } = this;
    const hex = make.bytes([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
    // Surrogates are left out: alone they are no character, and in pairs a form that nobody needs.
    const code = make.choice(
      make.sequence(
        make.bytes([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]),
        hex,
        hex,
        hex,
      ),
      make.sequence(make.bytes([0x44, 0x44], [0x64, 0x64]), make.bytes([0x30, 0x37]), hex, hex),
    );
    const short = make.bytes(
      ...Array.from('"\\/bfnrt', (each) => [each.charCodeAt(0), each.charCodeAt(0)] as const),
    );
    return make.choice(
      make.character(complement(ESCAPED)),
      make.sequence(make.text('\\'), make.choice(short, make.sequence(make.text('u'), code))),
    );
  }

  /** Characters without escapes that together are none of the names. */
  #unlike(names: readonly string[]): Expression {
    const { make } = this;
    const plain = make.character(complement(ESCAPED));
    const any = make.repeat(plain, 0, Number.POSITIVE_INFINITY);
    const from = (rests: readonly string[]): Expression => {
      const byFirst = new Map<string, string[]>();
      for (const rest of rests) {
        if (rest === '') continue;
        const first = String.fromCodePoint(rest.codePointAt(0)!);
        const next = byFirst.get(first);
        if (next === undefined) byFirst.set(first, [rest.slice(first.length)]);
        else next.push(rest.slice(first.length));
      }
      const codes = [...byFirst.keys()].map((each) => each.codePointAt(0)!);
      const taken = [...ESCAPED, ...codes.map((code) => [code, code] as const)];
      return make.choice(
        rests.includes('') ? make.never : make.empty,
        make.sequence(make.character(complement(taken)), any),
        ...[...byFirst].map(([first, next]) => make.sequence(make.text(first), from(next))),
      );
    };
    // A name that needs an escape can't be spelled without one.
    const spelled = names.filter((name) => JSON.stringify(name) === `"${name}"`);
    if (spelled.some(({ length }) => length > MOST_NAME))
      throw tooLarge(`a name has more than ${MOST_NAME} characters`);
    return spelled.length === 0 ? any : from(spelled);
  }
}
