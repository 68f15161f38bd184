import { ElementScanner, FUNCTION, jsonOf } from './elements';
import { TOOL_CALL_FORMATS, type ToolCallFormat, type ToolCallFormatName } from './formats';
import { CallScanner, isBlank, skipBlanks } from './scanners';

/** A piece of a call. `id` and `name` come with its first piece; its joined `arguments` are the text of a JSON object. */
export interface ToolCallDelta {
  /** Which call of the answer it is, from 0 on. */
  index: number;
  id: string | null;
  name: string | null;
  arguments: string;
}

/** What a piece of an answer is: text outside calls, and pieces of calls. */
export interface ParsedAnswer {
  text: string;
  calls: ToolCallDelta[];
}

export interface ToolCallParserOptions {
  format: ToolCallFormatName;
  /** The functions that there are. Where no mark announces calls, only those of these are calls. Default: any. */
  names?: ReadonlySet<string> | undefined;
  /**
   * By the names of functions, the JSON Schemas of their arguments, which tell texts from numbers and other values where a form
   * doesn't (`qwen3-coder`). Default: all arguments are texts there.
   */
  parameters?: ReadonlyMap<string, unknown> | undefined;
  /**
   * Called when a call's arguments have begun but not ended, with all of them so far. Where it returns true, because they are
   * sure to become an object, they are given out as they come; else a call is held back until it is whole. Default: false.
   */
  onArguments?: ((name: string, begun: string) => boolean) | undefined;
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
/** The name before arguments, an id, and a mark: whole, and as much of it as may still become one. */
const NAMED = /^\s*([\w.:-]{1,128})\s*(?:\[CALL_ID\]\s*([\w-]{1,64})\s*)?(?:\[ARGS\]\s*)?(?=\{)/;
const BEGINS_NAMED = /^\s*(?:[\w.:-]{1,128}\s*(?:\[[A-Z_]{0,8}\]?\s*[\w-]{0,64}\s*){0,2})?$/;
const MOST_NAMED = 300;

/**
 * Separates calls of functions from the text of an answer that arrives in pieces. However it is cut, the joined pieces are the
 * same. What looks like a call and is none stays text, with its marks; blanks beside calls are no text.
 */
export class ToolCallParser {
  readonly #format: ToolCallFormat;
  #out: ParsedAnswer = { text: '', calls: [] };
  /** What wasn't decided yet. In a call it begins with the mark, or after the call before. */
  #input = '';
  #state: 'text' | 'start' | 'item' | 'call' | 'after' | 'close' = 'text';
  /** In a call, the place up to which `#input` was read. */
  #at = 0;
  /** Length of the mark that `#input` begins with. */
  #mark = 0;
  #inList = false;
  /** The call that is read, and the place of its first brace. */
  #call: CallScanner | ElementScanner = new CallScanner(null);
  #from = 0;
  #id: string | null = null;
  #wasAsked = false;
  /** Characters of `#input` up to which arguments were given out; null while the call is held back. */
  #given: number | null = null;
  #count = 0;
  #completed = 0;
  /** Whether the answer may still begin with a call that no mark announces. */
  #mayBeBare: boolean;
  #blanks = '';
  #hasText = false;
  #isOver = false;

  constructor(private readonly options: ToolCallParserOptions) {
    this.#format = TOOL_CALL_FORMATS[options.format];
    this.#mayBeBare = this.#format.bare;
  }

  /** The number of calls that are whole. */
  get completed(): number {
    return this.#completed;
  }

  /** What has become certain with this text. */
  push(text: string): ParsedAnswer {
    this.#input += text;
    this.#run();
    this.#ask();
    return this.#take();
  }

  /** The rest, after the last text. A call that is cut within its arguments stays one if they were given out. */
  flush(): ParsedAnswer {
    this.#isOver = true;
    this.#run();
    while (this.#state !== 'text') {
      const isWhole = this.#given !== null || this.#state === 'close';
      if (isWhole) this.#leave(this.#input.length);
      else this.#fail();
      this.#run();
    }
    if (this.#count === 0) this.#out.text += this.#blanks;
    this.#blanks = '';
    return this.#take();
  }

  #take(): ParsedAnswer {
    const out = this.#out;
    this.#out = { text: '', calls: [] };
    return out;
  }

  #run(): void {
    while (this.#step());
  }

  /** Goes on to the next state; false where more text is needed. */
  #step(): boolean {
    if (this.#state === 'text') return this.#find();
    if (this.#state === 'call') return this.#readCall();
    const at = skipBlanks(this.#input, this.#at);
    if (at === this.#input.length) return false;
    if (this.#state === 'start') return this.#start(at);
    if (this.#state === 'close') return this.#close(at);
    const next = this.#input[at];
    if (this.#state === 'item') return next === '{' ? this.#begin(at) : this.#fail();
    if (next !== ',' && next !== ']') return this.#fail();
    if (next === ',') this.#at = at + 1;
    else this.#cut(at + 1);
    this.#state = next === ',' ? 'item' : 'close';
    return true;
  }

  /** Looks for the beginning of calls, and gives out the text before it. */
  #find(): boolean {
    const input = this.#input;
    if (input === '') return false;
    if (this.#mayBeBare) {
      const at = skipBlanks(input, 0);
      if (at === input.length && !this.#isOver) return false;
      this.#mayBeBare = false;
      if (input[at] === '{') return this.#enter(at, 0);
    }
    const found = this.#format.marks
      .map((mark) => ({ at: input.indexOf(mark), length: mark.length }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at);
    if (found.length > 0) {
      const { at, length } = found[0];
      // A function's element is part of the call that it announces.
      return this.#enter(at, input.startsWith(FUNCTION, at) ? 0 : length);
    }
    const certain = this.#isOver ? input.length : input.length - this.#undecided();
    this.#say(input.slice(0, certain));
    this.#input = input.slice(certain);
    return false;
  }

  /** Length of the end of the input that may be the beginning of a mark. */
  #undecided(): number {
    let longest = 0;
    for (const mark of this.#format.marks) {
      for (let n = Math.min(mark.length - 1, this.#input.length); n > longest; n--) {
        if (this.#input.endsWith(mark.slice(0, n))) longest = n;
      }
    }
    return longest;
  }

  #enter(at: number, mark: number): true {
    this.#say(this.#input.slice(0, at));
    this.#input = this.#input.slice(at);
    this.#mark = mark;
    this.#at = mark;
    this.#inList = false;
    this.#state = 'start';
    return true;
  }

  #start(at: number): boolean {
    if (this.#format.elements) return this.#startElements(at);
    const next = this.#input[at];
    if (next === '{') return this.#begin(at);
    if (next === '[') {
      this.#inList = true;
      this.#state = 'item';
      this.#at = at + 1;
      return true;
    }
    if (!this.#format.named) return this.#fail();
    const rest = this.#input.slice(at, at + MOST_NAMED);
    const named = NAMED.exec(rest);
    if (named !== null) return this.#begin(at + named[0].length, named[1], named[2]);
    return BEGINS_NAMED.test(rest) ? false : this.#fail();
  }

  #startElements(at: number): boolean {
    if (this.#input.startsWith(FUNCTION, at)) return this.#begin(at);
    return FUNCTION.startsWith(this.#input.slice(at)) ? false : this.#fail();
  }

  #begin(at: number, name: string | null = null, id: string | null = null): true {
    this.#call = this.#format.elements ? new ElementScanner() : new CallScanner(name);
    this.#id = id;
    this.#wasAsked = false;
    this.#given = null;
    this.#from = at;
    this.#at = at;
    this.#state = 'call';
    return true;
  }

  #readCall(): boolean {
    const call = this.#call;
    this.#at = call.scan(this.#input, this.#at);
    if (this.#given !== null) this.#giveArguments();
    if (call.bad) return this.#given === null ? this.#fail() : this.#leave(this.#at);
    if (!call.done) return false;
    if (this.#given === null && !this.#giveWhole()) return this.#fail();
    this.#completed++;
    this.#cut(this.#at);
    this.#given = null;
    this.#state = this.#inList ? 'after' : 'close';
    return true;
  }

  /** Begins to give out a call whose arguments are sure to end well. */
  #ask(): void {
    const { name, arguments: span, done } = this.#call;
    if (this.#state !== 'call' || done || this.#wasAsked || name === null || name === '') return;
    if (span === null || span.to !== null || this.#input[span.from] !== '{' || !this.#isKnown(name)) return;
    this.#wasAsked = true;
    if (this.options.onArguments?.(name, this.#input.slice(span.from)) !== true) return;
    this.#give(name, '');
    this.#given = span.from;
    this.#giveArguments();
  }

  #giveArguments(): void {
    const { from, to } = this.#call.arguments!;
    const end = to ?? this.#at;
    const piece = this.#input.slice(Math.max(from, this.#given!), end);
    this.#given = end;
    if (piece === '') return;
    this.#out.calls.push({ index: this.#count - 1, id: null, name: null, arguments: piece });
  }

  /** Gives out a call that was held back; false if it is none. */
  #giveWhole(): boolean {
    const { name, arguments: span } = this.#call;
    if (name === null || name === '' || !this.#isKnown(name)) return false;
    if (this.#call instanceof ElementScanner) {
      this.#give(name, jsonOf(this.#call.values, this.options.parameters?.get(name)));
      return true;
    }
    try {
      const text = span === null ? '{}' : argumentsOf(this.#input.slice(span.from, span.to!));
      const whole: unknown = JSON.parse(this.#input.slice(this.#from, this.#at));
      const { id } = whole as { id?: unknown };
      if (this.#from !== span?.from && typeof id === 'string' && /^[\w-]{1,64}$/.test(id)) this.#id ??= id;
      this.#give(name, text);
      return true;
    } catch {
      return false;
    }
  }

  #give(name: string, text: string): void {
    const id = this.#id ?? newId(this.#format);
    this.#out.calls.push({ index: this.#count++, id, name, arguments: text });
    this.#blanks = this.#hasText ? this.#blanks : '';
  }

  #isKnown(name: string): boolean {
    return this.#mark > 0 || !this.#format.bare || (this.options.names?.has(name) ?? true);
  }

  /** After a call, or a list of them. */
  #close(at: number): boolean {
    const rest = this.#input.slice(at);
    const { close, named } = this.#format;
    if (close !== '' && rest.startsWith(close)) return this.#leave(at + close.length);
    if (close.startsWith(rest) && !this.#isOver) return false;
    // Another call without a mark of its own.
    const another = this.#inList || named ? null : /^([;,]?)\s*(\{?)/.exec(rest)!;
    if (another?.[2] === '{') return this.#begin(at + another[0].length - 1);
    if (another?.[1] && another[0].length === rest.length && !this.#isOver) return false;
    return this.#leave(at);
  }

  /** What was read since the last call, or its first character, is text. */
  #fail(): true {
    const length = Math.max(1, this.#mark);
    this.#say(this.#input.slice(0, length));
    return this.#leave(length);
  }

  #leave(at: number): true {
    this.#cut(at);
    this.#state = 'text';
    return true;
  }

  #cut(at: number): void {
    this.#input = this.#input.slice(at);
    this.#at = 0;
    this.#mark = 0;
  }

  /** Gives out text; blanks at its end wait, since a call may follow. */
  #say(text: string): void {
    const all = this.#blanks + text;
    let end = all.length;
    while (end > 0 && isBlank(all[end - 1])) end--;
    this.#blanks = all.slice(end);
    if (end === 0) return;
    const from = this.#hasText || this.#count === 0 ? 0 : skipBlanks(all, 0);
    this.#out.text += all.slice(from, end);
    this.#hasText = true;
  }
}

/** The text of arguments, which some models write as JSON in a text. @throws SyntaxError or TypeError for no object. */
function argumentsOf(json: string): string {
  const value: unknown = JSON.parse(json);
  if (value === null) return '{}';
  if (typeof value === 'string') return argumentsOf(value);
  if (typeof value === 'object' && !Array.isArray(value)) return json;
  throw new TypeError('the arguments are no object');
}

function newId({ idPrefix, idLength }: ToolCallFormat): string {
  let id = idPrefix;
  while (id.length < idLength) id += LETTERS[Math.floor(Math.random() * LETTERS.length)];
  return id;
}

/** Adds pieces to calls, so that those of one call become one. */
export function joinCalls(calls: ToolCallDelta[], pieces: readonly ToolCallDelta[]): void {
  for (const piece of pieces) {
    const known = calls.find(({ index }) => index === piece.index);
    if (known === undefined) calls.push({ ...piece });
    else known.arguments += piece.arguments;
  }
}
