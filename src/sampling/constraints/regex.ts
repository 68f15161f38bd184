import { type CodeRange, complement, type Expression, type Expressions, invalid } from './expressions';

/** What a pattern is read into: its expression, and the least and most characters of its texts. */
export interface Pattern {
  readonly expression: Expression;
  readonly min: number;
  readonly max: number;
}

/** How characters are written in the text: as they are, or escaped as in a JSON string. */
export type Encode = (ranges: readonly CodeRange[]) => Expression;

const MOST_NESTING = 100;
const MOST_COUNT = 100_000;

const DIGITS: readonly CodeRange[] = [[0x30, 0x39]];
const WORD: readonly CodeRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
// White space and line ends of ECMAScript.
const SPACE: readonly CodeRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: readonly CodeRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
export const ANY: readonly CodeRange[] = [[0, 0x10ffff]];

const CLASSES: Readonly<Record<string, readonly CodeRange[]>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11, 0: 0 };

/** The whole text matches; `^` at the beginning and `$` at the end say nothing more. */
export function readRegex(source: string, make: Expressions): Expression {
  const reader = new RegexReader(source, make, (ranges) => make.character(ranges));
  return make.choiceOf(reader.read().map(({ pattern }) => pattern.expression));
}

/** A text has a match anywhere, as JSON Schema means it, so that `^` and `$` say where. */
export function readSearch(source: string, make: Expressions, encode: Encode): Pattern {
  const any = make.repeat(encode(ANY), 0, Number.POSITIVE_INFINITY);
  const all = new RegexReader(source, make, encode).read();
  const expressions = all.map(({ pattern, fromStart, toEnd }) =>
    make.sequence(fromStart ? make.empty : any, pattern.expression, toEnd ? make.empty : any),
  );
  return {
    expression: make.choiceOf(expressions),
    ...lengthsOf(
      all.map(({ pattern: { min, max }, fromStart, toEnd }) => {
        return { min, max: fromStart && toEnd ? max : Number.POSITIVE_INFINITY };
      }),
    ),
  };
}

interface Alternative {
  pattern: Pattern;
  fromStart: boolean;
  toEnd: boolean;
}

/** Reads the regular part of JavaScript's expressions (with the flag `u`): all that needs no memory of what was matched. */
class RegexReader {
  #at = 0;
  #depth = 0;
  readonly #source: readonly string[];

  constructor(
    source: string,
    private readonly make: Expressions,
    private readonly encode: Encode,
  ) {
    this.#source = Array.from(source);
  }

  /** The alternatives of the whole pattern. @throws SgemoeError SGEMOE_CONSTRAINT_INVALID. */
  read(): Alternative[] {
    const all: Alternative[] = [];
    do {
      const fromStart = this.#skip('^');
      const pattern = this.#sequence();
      all.push({ pattern, fromStart, toEnd: this.#skip('$') });
    } while (this.#skip('|'));
    if (this.#at < this.#source.length) this.#refuse(`'${this.#source[this.#at]}' is in the wrong place`);
    return all;
  }

  #alternatives(): Pattern {
    const all: Pattern[] = [];
    do all.push(this.#sequence());
    while (this.#skip('|'));
    return {
      expression: this.make.choiceOf(all.map(({ expression }) => expression)),
      ...lengthsOf(all),
    };
  }

  #sequence(): Pattern {
    const parts: Pattern[] = [];
    for (;;) {
      const next = this.#peek();
      if (next === undefined || next === '|' || next === ')' || next === '$') break;
      if (next === '^') this.#refuse("'^' is supported at the beginning only");
      parts.push(this.#quantified(this.#atom()));
    }
    return {
      expression: this.make.sequenceOf(parts.map(({ expression }) => expression)),
      min: parts.reduce((sum, { min }) => sum + min, 0),
      max: parts.reduce((sum, { max }) => sum + max, 0),
    };
  }

  #quantified(of: Pattern): Pattern {
    const count = this.#count();
    if (count === null) return of;
    // Lazy or greedy: the same texts match.
    this.#skip('?');
    const [min, max] = count;
    if (this.#peek() !== undefined && '*+?{'.includes(this.#peek()!))
      this.#refuse('nothing is repeated here');
    return {
      expression: this.make.repeat(of.expression, min, max),
      min: of.min * min,
      max: max === 0 || of.max === 0 ? 0 : of.max * max,
    };
  }

  #count(): [number, number] | null {
    if (this.#skip('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#skip('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#skip('?')) return [0, 1];
    if (!this.#skip('{')) return null;
    const min = this.#number();
    const max = !this.#skip(',') ? min : this.#peek() === '}' ? Number.POSITIVE_INFINITY : this.#number();
    if (!this.#skip('}')) this.#refuse('a count must be {m}, {m,} or {m,n}');
    if (max < min) this.#refuse('a count must not end below its beginning');
    return [min, max];
  }

  #number(): number {
    let digits = '';
    while (/^\d$/.test(this.#peek() ?? '')) digits += this.#take();
    if (digits === '') this.#refuse('a count must be {m}, {m,} or {m,n}');
    if (digits.length > 6 || Number(digits) > MOST_COUNT) this.#refuse(`counts go up to ${MOST_COUNT}`);
    return Number(digits);
  }

  #atom(): Pattern {
    const next = this.#take();
    if (next === '(') return this.#group();
    if (next === '[') return this.#one(this.#class());
    if (next === '.') return this.#one(complement(LINE_ENDS));
    if (next === '\\') return this.#one(this.#escape(false));
    if ('*+?{}]'.includes(next)) this.#refuse(`'${next}' is in the wrong place`);
    const code = next.codePointAt(0)!;
    return this.#one([[code, code]]);
  }

  #one(ranges: readonly CodeRange[]): Pattern {
    return { expression: this.encode(ranges), min: 1, max: 1 };
  }

  #group(): Pattern {
    if (++this.#depth > MOST_NESTING) this.#refuse(`groups are nested more than ${MOST_NESTING} deep`);
    if (this.#skip('?')) {
      if (this.#skip('<')) {
        if (this.#peek() === '=' || this.#peek() === '!') this.#refuse('lookbehind is not supported');
        while (this.#peek() !== undefined && this.#take() !== '>');
      } else if (!this.#skip(':')) {
        this.#refuse(
          '=!'.includes(this.#peek() ?? ' ')
            ? 'lookahead is not supported'
            : 'this kind of group is not supported',
        );
      }
    }
    const inner = this.#alternatives();
    if (this.#peek() === '$') this.#refuse("'$' is supported at the end only");
    if (!this.#skip(')')) this.#refuse("a group has no ')'");
    this.#depth--;
    return inner;
  }

  #class(): readonly CodeRange[] {
    const negated = this.#skip('^');
    const ranges: CodeRange[] = [];
    while (!this.#skip(']')) {
      const low = this.#member();
      if (this.#peek() !== '-' || this.#source[this.#at + 1] === ']') {
        ranges.push(...low);
        continue;
      }
      this.#take();
      const high = this.#member();
      if (!isOne(low) || !isOne(high)) this.#refuse('a range goes from one character to another');
      if (high[0][0] < low[0][0]) this.#refuse('a range must not end below its beginning');
      ranges.push([low[0][0], high[0][0]]);
    }
    return negated ? complement(ranges) : ranges;
  }

  #member(): readonly CodeRange[] {
    const next = this.#peek() === undefined ? this.#refuse("a class has no ']'") : this.#take();
    if (next === '\\') return this.#escape(true);
    const code = next.codePointAt(0)!;
    return [[code, code]];
  }

  #escape(inClass: boolean): readonly CodeRange[] {
    const next = this.#peek() === undefined ? this.#refuse('it ends in a backslash') : this.#take();
    if (next in CLASSES) return CLASSES[next];
    if (inClass && next === 'b') return [[8, 8]];
    if (next in CONTROLS && !(next === '0' && /^\d$/.test(this.#peek() ?? '')))
      return [[CONTROLS[next], CONTROLS[next]]];
    if (next === 'x') return this.#hex(2);
    if (next === 'u') return this.#peek() === '{' ? this.#bracedHex() : this.#unicode();
    if (/^[1-9k]$/.test(next)) this.#refuse('backreferences are not supported');
    if (next === 'b' || next === 'B') this.#refuse(`\\${next}, the border of a word, is not supported`);
    if (next === 'p' || next === 'P') this.#refuse(`\\${next}, a property of Unicode, is not supported`);
    if (/^[A-Za-z0-9]$/.test(next)) this.#refuse(`\\${next} is not known`);
    const code = next.codePointAt(0)!;
    return [[code, code]];
  }

  #bracedHex(): readonly CodeRange[] {
    this.#take();
    let digits = '';
    while (/^[0-9a-fA-F]$/.test(this.#peek() ?? '')) digits += this.#take();
    if (!this.#skip('}') || digits === '' || Number.parseInt(digits, 16) > 0x10ffff) {
      this.#refuse('\\u{...} must have the hexadecimal digits of a character');
    }
    const code = Number.parseInt(digits, 16);
    return [[code, code]];
  }

  /** Four digits, or the two escapes of a surrogate pair, which are one character. */
  #unicode(): readonly CodeRange[] {
    const [[code]] = this.#hex(4);
    const low = /^\\u([dD][c-fC-F][0-9a-fA-F]{2})$/.exec(
      this.#source.slice(this.#at, this.#at + 6).join(''),
    )?.[1];
    if (code < 0xd800 || code > 0xdbff || low === undefined) return [[code, code]];
    this.#at += 6;
    const pair = String.fromCharCode(code, Number.parseInt(low, 16)).codePointAt(0)!;
    return [[pair, pair]];
  }

  #hex(count: number): readonly CodeRange[] {
    let digits = '';
    while (digits.length < count && /^[0-9a-fA-F]$/.test(this.#peek() ?? '')) digits += this.#take();
    if (digits.length < count) this.#refuse(`an escape must have ${count} hexadecimal digits`);
    const code = Number.parseInt(digits, 16);
    return [[code, code]];
  }

  #peek(): string | undefined {
    return this.#source[this.#at];
  }

  #take(): string {
    return this.#source[this.#at++];
  }

  #skip(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }

  #refuse(why: string): never {
    throw invalid(`The regular expression can't be used: ${why} (character ${this.#at + 1}).`);
  }
}

/** The least and most characters of alternatives. */
function lengthsOf(all: readonly Pick<Pattern, 'min' | 'max'>[]): Pick<Pattern, 'min' | 'max'> {
  return {
    min: all.reduce((least, { min }) => Math.min(least, min), Number.POSITIVE_INFINITY),
    max: all.reduce((most, { max }) => Math.max(most, max), 0),
  };
}

function isOne(ranges: readonly CodeRange[]): boolean {
  return ranges.length === 1 && ranges[0][0] === ranges[0][1];
}
