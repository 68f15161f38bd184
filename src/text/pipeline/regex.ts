/**
 * Translates expressions of tokenizer.json to JavaScript. Hugging Face's `tokenizers` runs them with Oniguruma in its Ruby
 * syntax, https://github.com/kkos/oniguruma/blob/master/doc/RE: Unicode's classes behind \w, \d and \s, line anchors, nested classes,
 * possessive quantifiers and atomic groups. What JavaScript can't express is refused, never left out.
 */

/** Oniguruma's \w, which is Unicode's inside classes; outside, a few more numbers of Latin-1 count. */
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}';
const CLASSES: Readonly<Record<string, string>> = {
  w: WORD,
  d: '\\p{Nd}',
  s: '\\p{White_Space}',
  h: '0-9A-Fa-f',
};
const WORD_CHARACTER = `[${WORD}\\u{b2}\\u{b3}\\u{b9}\\u{bc}-\\u{be}]`;

const POSIX: Readonly<Record<string, string>> = {
  alpha: '\\p{Alphabetic}',
  alnum: '\\p{Alphabetic}\\p{Nd}',
  blank: '\\t\\p{Zs}',
  cntrl: '\\p{Cc}',
  digit: '\\p{Nd}',
  lower: '\\p{Lowercase}',
  punct: '\\p{P}\\p{S}',
  space: '\\p{White_Space}',
  upper: '\\p{Uppercase}',
  word: WORD,
  xdigit: '0-9A-Fa-f',
};

const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, a: 7, e: 27 };

const ANCHORS: Readonly<Record<string, string>> = {
  A: '(?<![\\s\\S])',
  z: '(?![\\s\\S])',
  Z: '(?=\\n?(?![\\s\\S]))',
  b: `(?:(?<!${WORD_CHARACTER})(?=${WORD_CHARACTER})|(?<=${WORD_CHARACTER})(?!${WORD_CHARACTER}))`,
  B: `(?:(?<!${WORD_CHARACTER})(?!${WORD_CHARACTER})|(?<=${WORD_CHARACTER})(?=${WORD_CHARACTER}))`,
};

/** A line begins after \n, but not at the end of the text. */
const LINE_START = '(?:(?<![\\s\\S])|(?<=\\n)(?=[\\s\\S]))';
const LINE_END = '(?![^\\n])';

/** Letters that Unicode folds to ASCII letters. */
const FOLDED: Readonly<Record<string, string>> = { s: '\u017f', k: '\u212a' };

/** The deepest nesting of groups; a deeper one isn't a real pattern and would overflow the stack. */
const MOST_NESTED = 100;

interface Flags {
  readonly ignoreCase: boolean;
  /** Whether . matches \n too, which is Ruby's flag m. */
  readonly dotAll: boolean;
}

/** @throws SyntaxError for an expression that is malformed, or that JavaScript can't express. */
export function translateRegExp(source: string): RegExp {
  const translated = new Translation(source).run();
  return new RegExp(translated, 'gv');
}

class Translation {
  #at = 0;
  #depth = 0;
  #atomic = 0;

  constructor(private readonly source: string) {}

  run(): string {
    const all = this.#alternatives({ ignoreCase: false, dotAll: false });
    if (this.#at < this.source.length) throw this.#error('an unmatched )');
    return all;
  }

  /** Translates up to the end of the group. */
  #alternatives(flags: Flags): string {
    if (++this.#depth > MOST_NESTED) throw this.#error(`more than ${MOST_NESTED} groups in groups`);
    let all = '';
    while (this.#at < this.source.length && !this.#sees(')')) {
      const switched = this.#switchedFlags(flags);
      // The rest of the group, alternatives included, becomes a group with these flags.
      if (switched !== null) all += `(?:${this.#alternatives(switched)})`;
      else all += this.#takes('|') ? '|' : this.#quantified(flags);
    }
    this.#depth--;
    return all;
  }

  /** Flags for the rest of the group, as in (?i); null if there are none. */
  #switchedFlags(flags: Flags): Flags | null {
    const found = this.#match(/\(\?([a-z]*)(?:-([a-z]*))?\)/y);
    return found && this.#withFlags(flags, found[1], found[2] ?? '');
  }

  #withFlags(flags: Flags, on: string, off: string): Flags {
    for (const flag of on + off) if (flag !== 'i' && flag !== 'm') throw this.#error(`the flag ${flag}`);
    return {
      ignoreCase: (flags.ignoreCase || on.includes('i')) && !off.includes('i'),
      dotAll: (flags.dotAll || on.includes('m')) && !off.includes('m'),
    };
  }

  /** Translates an element with its quantifier. */
  #quantified(flags: Flags): string {
    let element = this.#element(flags);
    for (;;) {
      const found = this.#match(/([*+?])([?+]?)|\{(\d+)(,?)(\d*)\}(\??)|\{,(\d+)\}(\??)/y);
      if (found === null) return element;
      if (element === '') throw this.#error('a quantifier of nothing');
      const [, sign, mode, low, comma, high, lazy, most, lazyMost] = found;
      const body = `(?:${element})`;
      if (sign !== undefined) {
        element = mode === '+' ? this.#atomicGroup(body + sign) : body + sign + mode;
      } else if (low !== undefined) {
        // {n}? is an optional {n} in this syntax.
        const exact = comma === '';
        element = `${body}{${low}${comma}${high}}`;
        if (lazy === '?') element = exact ? `(?:${element})?` : `${element}?`;
      } else element = `${body}{0,${most}}${lazyMost}`;
    }
  }

  /** An atomic group, which keeps its first match and never backtracks. In JavaScript a lookahead does that. */
  #atomicGroup(body: string): string {
    const name = `atomic${this.#atomic++}`;
    return `(?:(?=(?<${name}>${body}))\\k<${name}>)`;
  }

  #element(flags: Flags): string {
    if (this.#sees('(')) return this.#group(flags);
    if (this.#sees('[')) return this.#class(flags);
    if (this.#sees('\\')) return this.#escape(flags);
    if (this.#takes('.')) return flags.dotAll ? '[\\s\\S]' : '[^\\n]';
    if (this.#takes('^')) return LINE_START;
    if (this.#takes('$')) return LINE_END;
    if (this.#match(/[*+?]/y) !== null) throw this.#error('a quantifier of nothing');
    return literal(this.#character(), flags);
  }

  #group(flags: Flags): string {
    if (this.#match(/\(\?#[^)]*\)/y) !== null) return '(?:)';
    const look = this.#match(/\(\?(?:<?[=!])/y);
    if (look !== null) return this.#closed(`${look[0]}`, flags);
    if (this.#match(/\(\?>/y) !== null) return this.#atomicGroup(this.#closed('(?:', flags));
    const set = this.#match(/\(\?([a-z]*)(?:-([a-z]*))?:/y);
    if (set !== null) return this.#closed('(?:', this.#withFlags(flags, set[1], set[2] ?? ''));
    // Nothing refers to groups, since references are refused.
    if (this.#match(/\(\?<[A-Za-z_]\w*>|\((?!\?)/y) !== null) return this.#closed('(?:', flags);
    throw this.#error('this kind of group');
  }

  #closed(open: string, flags: Flags): string {
    const body = this.#alternatives(flags);
    if (!this.#takes(')')) throw this.#error('a group without an end');
    return `${open}${body})`;
  }

  #escape(flags: Flags): string {
    const set = this.#shorthand();
    if (set !== null) return set;
    const anchor = this.#match(/\\([AzZbB])/y);
    if (anchor !== null) return ANCHORS[anchor[1]];
    return literal(this.#escapedCharacter(), flags);
  }

  /** Translates \w, \P{L} and the like; null for anything else. */
  #shorthand(inClass = false): string | null {
    const short = this.#match(/\\([wdshWDSH])/y);
    if (short !== null) {
      const kind = short[1].toLowerCase();
      const content = kind === 'w' && !inClass ? WORD_CHARACTER : `[${CLASSES[kind]}]`;
      return short[1] === kind ? content : `[^${content}]`;
    }
    const property = this.#match(/\\([pP])\{(\^?)([\w\s=-]+)\}/y);
    if (property === null) return null;
    const positive = (property[1] === 'p') === (property[2] === '');
    return this.#property(property[3], positive);
  }

  #property(name: string, positive: boolean): string {
    const posix = POSIX[name.toLowerCase()];
    if (posix !== undefined) return positive ? `[${posix}]` : `[^${posix}]`;
    for (const each of [name, `Script=${name}`]) {
      const property = `\\${positive ? 'p' : 'P'}{${each}}`;
      try {
        new RegExp(property, 'v');
        return property;
      } catch {}
    }
    throw this.#error(`the property ${name}`);
  }

  /** Reads the character after a backslash. */
  #escapedCharacter(): string {
    const code = this.#match(/\\x\{([0-9A-Fa-f]{1,6})\}|\\x([0-9A-Fa-f]{1,2})|\\u([0-9A-Fa-f]{4})/y);
    if (code !== null) {
      const value = Number.parseInt(code[1] ?? code[2] ?? code[3], 16);
      if (value > 0x10ffff) throw this.#error('a character beyond Unicode');
      return String.fromCodePoint(value);
    }
    this.#at++;
    if (this.#at === this.source.length) throw this.#error('a backslash at the end');
    const character = this.#character();
    const control = CONTROLS[character];
    if (control !== undefined) return String.fromCharCode(control);
    if (/[A-Za-z0-9]/.test(character)) throw this.#error(`\\${character}`);
    return character;
  }

  /** Translates a class [...] to one element. */
  #class(flags: Flags): string {
    if (++this.#depth > MOST_NESTED) throw this.#error(`more than ${MOST_NESTED} classes in classes`);
    this.#at++;
    const negated = this.#takes('^');
    const operands: string[] = [];
    let content = '';
    let empty = true;
    while (empty || !this.#sees(']')) {
      if (this.#at >= this.source.length) throw this.#error('a class without an end');
      if (this.#takes('&&')) {
        operands.push(`[${content}]`);
        content = '';
      } else content += this.#classItem(flags);
      empty = false;
    }
    this.#at++;
    this.#depth--;
    operands.push(`[${content}]`);
    const all = operands.length === 1 ? content : operands.join('&&');
    const positive = flags.ignoreCase ? withFolds(`[${all}]`) : `[${all}]`;
    return negated ? `[^${positive}]` : positive;
  }

  #classItem(flags: Flags): string {
    const posix = this.#match(/\[:(\^?)([a-z]+):\]/y);
    if (posix !== null) return this.#property(posix[2], posix[1] === '');
    if (this.#sees('[')) return this.#class(flags);
    const set = this.#shorthand(true);
    if (set !== null) return set;
    const first = this.#classCharacter();
    if (this.#match(/-(?!\]|&&|\[)/y) === null) return escapeCharacter(first);
    if (this.#shorthand(true) !== null) throw this.#error('a range with a class');
    return `${escapeCharacter(first)}-${escapeCharacter(this.#classCharacter())}`;
  }

  #classCharacter(): string {
    if (this.#match(/\\b/y) !== null) return '\b';
    return this.#sees('\\') ? this.#escapedCharacter() : this.#character();
  }

  #character(): string {
    const character = String.fromCodePoint(this.source.codePointAt(this.#at)!);
    this.#at += character.length;
    return character;
  }

  #sees(text: string): boolean {
    return this.source.startsWith(text, this.#at);
  }

  #takes(text: string): boolean {
    const found = this.#sees(text);
    if (found) this.#at += text.length;
    return found;
  }

  /** @param pattern sticky. */
  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.source);
    if (found !== null) this.#at = pattern.lastIndex;
    return found;
  }

  #error(what: string): SyntaxError {
    return new SyntaxError(`${what}, at ${this.#at}`);
  }
}

function literal(character: string, { ignoreCase }: Flags): string {
  if (!ignoreCase) return escapeCharacter(character);
  const variants = variantsOf(character);
  return variants.length === 1 ? escapeCharacter(character) : `[${variants.map(escapeCharacter).join('')}]`;
}

/**
 * The characters that equal a character if case is ignored, itself included.
 * @throws SyntaxError for a character that equals a sequence of several, such as \u00df.
 */
function variantsOf(character: string): string[] {
  const lower = character === FOLDED.s ? 's' : character.toLowerCase();
  const all = [...new Set([character, lower, lower.toUpperCase(), FOLDED[lower] ?? lower])];
  if (all.every((each) => [...each].length === 1)) return all;
  throw new SyntaxError(`${character} where case is ignored`);
}

/** A class with the other cases of its letters added. */
function withFolds(set: string): string {
  const matches = new RegExp(`^${set}$`, 'v');
  const folds = casedLetters().filter((letter) => matches.test(letter));
  const others = new Set(folds.flatMap(variantsOf).filter((letter) => !matches.test(letter)));
  return others.size === 0 ? set : `[${set}${[...others].map(escapeCharacter).join('')}]`;
}

let cased: string[] | undefined;

/** All letters with one other case; there are none beyond U+1FFFF. */
function casedLetters(): string[] {
  cased ??= Array.from({ length: 0x20000 }, (_, code) => String.fromCodePoint(code)).filter(
    (character) =>
      /\p{Changes_When_Casemapped}/u.test(character) &&
      [...character.toLowerCase(), ...character.toUpperCase()].length === 2,
  );
  return cased;
}

/** Escapes a character for use as an element or in a class. */
function escapeCharacter(character: string): string {
  return /^[A-Za-z0-9]$/.test(character) ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`;
}
