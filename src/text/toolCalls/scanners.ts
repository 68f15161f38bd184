/** Finding the parts of a call's JSON in a text that arrives in pieces. */

const BLANK = /[ \t\r\n]/;

export function isBlank(character: string): boolean {
  return BLANK.test(character);
}

/** The place of the first character from `at` on that isn't blank. */
export function skipBlanks(text: string, at: number): number {
  let next = at;
  while (next < text.length && isBlank(text[next])) next++;
  return next;
}

/** Finds the end of a JSON value by its brackets and quotes. Whether it is one inside, JSON.parse has to tell. */
class ValueScanner {
  done = false;
  #depth = 0;
  #inString = false;
  #isScalar = false;
  #escaped = false;
  #begun = false;

  /** Reads on; returns the place behind the value, or the end of the text. */
  scan(text: string, at: number): number {
    let next = at;
    while (next < text.length && !this.done) {
      if (this.#isScalar && /[\s,}\]]/.test(text[next])) this.done = true;
      else this.#take(text[next++]);
    }
    return next;
  }

  #take(character: string): void {
    const isFirst = !this.#begun;
    this.#begun = true;
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') {
        this.#inString = false;
        this.done = this.#depth === 0;
      }
    } else if (character === '"') this.#inString = true;
    else if (character === '{' || character === '[') this.#depth++;
    else if (character === '}' || character === ']') this.done = --this.#depth <= 0;
    else if (isFirst) this.#isScalar = true;
  }
}

/** A part of a text; `to` is null while its end hasn't come. */
export interface Span {
  from: number;
  to: number | null;
}

/** Reads a call `{"name": ..., "arguments": ...}`, or the arguments alone where the name came before. */
export class CallScanner {
  done = false;
  /** Whether it is no JSON object. */
  bad = false;
  /** Where the arguments stand, once they begin. */
  arguments: Span | null = null;
  #expects: 'open' | 'first key' | 'key' | 'colon' | 'value' | 'more' = 'open';
  #value: ValueScanner | null = null;
  #from = 0;
  #key = '';

  /** @param name the function's, where it stands before the JSON; null while it isn't known. */
  constructor(public name: string | null) {
    this.#isNamed = name !== null;
  }

  readonly #isNamed: boolean;

  /** Reads on from `at`; returns the place behind what was read. Earlier text must stay where it was. */
  scan(text: string, at: number): number {
    let next = at;
    if (this.#isNamed && this.arguments === null && next < text.length) {
      this.arguments = { from: next, to: null };
      this.#value = new ValueScanner();
    }
    while (next < text.length && !this.done && !this.bad) {
      if (this.#value !== null) {
        next = this.#value.scan(text, next);
        if (this.#value.done) this.#endValue(text, next);
      } else if (isBlank(text[next])) next++;
      else if (this.#take(text[next], next)) next++;
    }
    return next;
  }

  /** Takes a character between values; returns whether it is consumed. */
  #take(character: string, at: number): boolean {
    const expects = this.#expects;
    if (expects === 'value' || (character === '"' && (expects === 'key' || expects === 'first key'))) {
      this.#from = at;
      this.#value = new ValueScanner();
      const isArguments = expects === 'value' && (this.#key === 'arguments' || this.#key === 'parameters');
      if (isArguments) this.arguments = { from: at, to: null };
      return false;
    }
    if (expects === 'open' && character === '{') this.#expects = 'first key';
    else if (expects === 'colon' && character === ':') this.#expects = 'value';
    else if (expects === 'more' && character === ',') this.#expects = 'key';
    else if ((expects === 'more' || expects === 'first key') && character === '}') this.done = true;
    else this.bad = true;
    return true;
  }

  #endValue(text: string, at: number): void {
    this.#value = null;
    if (this.#isNamed) {
      this.arguments!.to = at;
      this.done = true;
      return;
    }
    const value = text.slice(this.#from, at);
    if (this.#expects !== 'value') {
      this.#key = this.#textOf(value);
      this.#expects = 'colon';
      return;
    }
    if (this.arguments?.from === this.#from) this.arguments.to = at;
    if (this.#key === 'name' && value.startsWith('"')) this.name = this.#textOf(value);
    this.#expects = 'more';
  }

  #textOf(json: string): string {
    try {
      return JSON.parse(json) as string;
    } catch {
      this.bad = true;
      return '';
    }
  }
}
