import {
  type CodeRange,
  complement,
  type Expression,
  type Expressions,
  invalid,
  type Rule,
} from './expressions';

const MOST_NESTING = 100;
const MOST_COUNT = 100_000;
const NAME = /[A-Za-z0-9-]/;
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  '\\': '\\',
  '"': '"',
  '[': '[',
  ']': ']',
  '-': '-',
  '^': '^',
  '/': '/',
};
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/**
 * Reads a grammar in llama.cpp's form (GBNF): rules `name ::= ...` with literals, classes of characters, '.', groups, '|',
 * '*', '+', '?', '{m,n}' and comments; `root` is the text.
 * @throws SgemoeError SGEMOE_CONSTRAINT_INVALID with the line of what is wrong.
 */
export function readGbnf(source: string, make: Expressions): Expression {
  return new GbnfReader(source, make).read();
}

class GbnfReader {
  #at = 0;
  #depth = 0;
  readonly #source: readonly string[];
  readonly #rules = new Map<string, Rule>();
  readonly #defined = new Set<string>();

  constructor(
    source: string,
    private readonly make: Expressions,
  ) {
    this.#source = Array.from(source);
  }

  read(): Expression {
    this.#space(true);
    while (this.#at < this.#source.length) this.#rule();
    for (const name of this.#rules.keys()) {
      if (!this.#defined.has(name))
        throw invalid(`The grammar has no rule '${name}', which another one names.`);
    }
    const root = this.#rules.get('root');
    if (root === undefined) throw invalid("The grammar must have a rule 'root'.");
    return root;
  }

  #rule(): void {
    const name = this.#name();
    this.#space(false);
    if (!(this.#skip(':') && this.#skip(':') && this.#skip('=')))
      this.#refuse("'::=' must follow the name of a rule");
    this.#space(true);
    const rule = this.#ruleOf(name);
    if (this.#defined.has(name)) this.#refuse(`there are two rules '${name}'`);
    this.#defined.add(name);
    rule.body = this.#alternatives(false);
    const isEnd = this.#peek() === undefined || this.#peek() === '\n' || this.#peek() === '\r';
    if (!isEnd) this.#refuse(`'${this.#peek()}' is in the wrong place`);
    this.#space(true);
  }

  #alternatives(nested: boolean): Expression {
    const options = [this.#sequence(nested)];
    while (this.#bar(nested)) {
      this.#space(true);
      options.push(this.#sequence(nested));
    }
    return this.make.choiceOf(options);
  }

  /** Takes a '|', which may stand at the beginning of the next line. */
  #bar(nested: boolean): boolean {
    const before = this.#at;
    this.#space(true);
    if (this.#skip('|')) return true;
    if (!nested) this.#at = before;
    return false;
  }

  #sequence(nested: boolean): Expression {
    const parts: Expression[] = [];
    for (;;) {
      const atom = this.#atom();
      if (atom === null) return this.make.sequenceOf(parts);
      this.#space(nested);
      let of = atom;
      for (let count = this.#count(nested); count !== null; count = this.#count(nested)) {
        of = this.make.repeat(of, ...count);
        this.#space(nested);
      }
      parts.push(of);
    }
  }

  #atom(): Expression | null {
    const next = this.#peek();
    if (next === undefined) return null;
    if (NAME.test(next)) return this.#ruleOf(this.#name());
    if (next === '"') return this.#literal();
    if (next === '[') return this.#class();
    if (next === '(') return this.#group();
    if (next === '<' || next === '!') this.#refuse('tokens in a grammar (<...>) are not supported');
    if (!this.#skip('.')) return null;
    return this.make.character([[0, 0x10ffff]]);
  }

  #group(): Expression {
    this.#at++;
    if (++this.#depth > MOST_NESTING) this.#refuse(`groups are nested more than ${MOST_NESTING} deep`);
    this.#space(true);
    const inner = this.#alternatives(true);
    if (!this.#skip(')')) this.#refuse("a group has no ')'");
    this.#depth--;
    return inner;
  }

  #literal(): Expression {
    this.#at++;
    let text = '';
    while (!this.#skip('"')) {
      if (this.#peek() === undefined || this.#peek() === '\n')
        this.#refuse("a literal has no '\"' at its end");
      text += String.fromCodePoint(this.#character());
    }
    return this.make.text(text);
  }

  #class(): Expression {
    this.#at++;
    const negated = this.#skip('^');
    const ranges: CodeRange[] = [];
    while (!this.#skip(']')) {
      if (this.#peek() === undefined || this.#peek() === '\n') this.#refuse("a class has no ']'");
      const low = this.#character();
      const isRange = this.#peek() === '-' && this.#source[this.#at + 1] !== ']';
      if (isRange) this.#at++;
      const high = isRange ? this.#character() : low;
      if (high < low) this.#refuse('a range must not end below its beginning');
      ranges.push([low, high]);
    }
    return this.make.character(negated ? complement(ranges) : ranges);
  }

  /** A character of a literal or a class, which may be escaped. */
  #character(): number {
    const next = this.#source[this.#at++];
    if (next === undefined) this.#refuse('it ends within a character');
    if (next !== '\\') return next.codePointAt(0)!;
    const escaped = this.#source[this.#at++] ?? ' ';
    const digits = HEX_DIGITS[escaped];
    if (digits === undefined) {
      return (ESCAPES[escaped] ?? this.#refuse(`'\\${escaped}' is not known`)).codePointAt(0)!;
    }
    const hex = this.#source.slice(this.#at, this.#at + digits).join('');
    this.#at += digits;
    const code = Number.parseInt(hex, 16);
    if (!/^[0-9a-fA-F]+$/.test(hex) || hex.length < digits || code > 0x10ffff) {
      this.#refuse(`'\\${escaped}' must have ${digits} hexadecimal digits of a character`);
    }
    return code;
  }

  #count(nested: boolean): [number, number] | null {
    if (this.#skip('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#skip('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#skip('?')) return [0, 1];
    if (!this.#skip('{')) return null;
    this.#space(nested);
    const min = this.#number() ?? this.#refuse('a count must be {m}, {m,} or {m,n}');
    this.#space(nested);
    let max = min;
    if (this.#skip(',')) {
      this.#space(nested);
      max = this.#number() ?? Number.POSITIVE_INFINITY;
      this.#space(nested);
    }
    if (!this.#skip('}')) this.#refuse('a count must be {m}, {m,} or {m,n}');
    if (max < min) this.#refuse('a count must not end below its beginning');
    return [min, max];
  }

  #number(): number | null {
    let digits = '';
    while (/^\d$/.test(this.#peek() ?? '')) digits += this.#source[this.#at++];
    if (digits === '') return null;
    if (digits.length > 6 || Number(digits) > MOST_COUNT) this.#refuse(`counts go up to ${MOST_COUNT}`);
    return Number(digits);
  }

  #name(): string {
    let name = '';
    while (NAME.test(this.#peek() ?? ' ')) name += this.#source[this.#at++];
    return name === '' ? this.#refuse('the name of a rule was expected') : name;
  }

  #ruleOf(name: string): Rule {
    let rule = this.#rules.get(name);
    if (rule === undefined) {
      rule = this.make.rule(name);
      this.#rules.set(name, rule);
    }
    return rule;
  }

  /** Skips blanks and comments. */
  #space(withLines: boolean): void {
    for (;;) {
      const next = this.#peek();
      if (next === '#') {
        while (this.#peek() !== undefined && this.#peek() !== '\n') this.#at++;
      } else if (next === ' ' || next === '\t' || (withLines && (next === '\n' || next === '\r'))) this.#at++;
      else return;
    }
  }

  #peek(): string | undefined {
    return this.#source[this.#at];
  }

  #skip(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }

  #refuse(why: string): never {
    const line = this.#source.slice(0, this.#at).filter((each) => each === '\n').length + 1;
    throw invalid(`The grammar can't be used: ${why} (line ${line}).`);
  }
}
