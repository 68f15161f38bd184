/** Calls written as elements: `<function=name>`, `<parameter=key>value</parameter>` for each argument, `</function>`. */
import { skipBlanks } from './scanners';

export const FUNCTION = '<function=';
const PARAMETER = '<parameter=';
const END_PARAMETER = '</parameter>';
const END_FUNCTION = '</function>';
const MOST_NAME = 256;

/** Finds the parts of a call in a text that arrives in pieces. */
export class ElementScanner {
  done = false;
  /** Whether it is no call. */
  bad = false;
  name: string | null = null;
  /** It has no JSON whose pieces could be given out. */
  readonly arguments = null;
  /** The texts of the arguments. */
  readonly values = new Map<string, string>();
  #state: 'function' | 'key' | 'value' | 'between' = 'function';
  #key = '';
  /** Where the value begins, and up to where its end was looked for. */
  #from = 0;
  #searched = 0;

  /** Reads on from `at`, first from `FUNCTION`; returns where to go on. Earlier text must stay where it was. */
  scan(text: string, at: number): number {
    let next = at;
    while (!this.done && !this.bad) {
      const to = this.#step(text, next);
      if (to === null) break;
      next = to;
    }
    return next;
  }

  /** Reads a part; returns the place behind it, null where more text is needed. */
  #step(text: string, at: number): number | null {
    if (this.#state === 'between') return this.#readTag(text, at);
    if (this.#state === 'value') return this.#readValue(text);
    const from = this.#state === 'function' ? at + FUNCTION.length : at;
    const end = text.indexOf('>', from);
    const name = text.slice(from, end < 0 ? text.length : end);
    this.bad = name.length > MOST_NAME || /[<\s]/.test(name) || (end >= 0 && name === '');
    if (this.bad || end < 0) return null;
    if (this.#state === 'function') {
      this.name = name;
      this.#state = 'between';
    } else {
      this.#key = name;
      this.#state = 'value';
      this.#from = end + 1;
      this.#searched = end + 1;
    }
    return end + 1;
  }

  #readTag(text: string, at: number): number | null {
    const from = skipBlanks(text, at);
    const tag = tagAt(text, from);
    this.bad = tag === null;
    if (tag === null || tag === '') return null;
    this.done = tag === END_FUNCTION;
    this.#state = 'key';
    return from + tag.length;
  }

  /** A value ends where another argument or the call's end follows, so that it may itself have the text of an end. */
  #readValue(text: string): number | null {
    for (;;) {
      const end = text.indexOf(END_PARAMETER, this.#searched);
      if (end < 0) {
        this.#searched = Math.max(this.#from, text.length - END_PARAMETER.length + 1);
        return null;
      }
      const tag = tagAt(text, skipBlanks(text, end + END_PARAMETER.length));
      this.#searched = tag === null ? end + END_PARAMETER.length : end;
      if (tag === '') return null;
      if (tag === null) continue;
      this.values.set(this.#key, text.slice(this.#from, end));
      this.#state = 'between';
      return end + END_PARAMETER.length;
    }
  }
}

/** The tag that may stand within a call; '' where the text ends before one is told, null for anything else. */
function tagAt(text: string, at: number): string | null {
  const tags = [PARAMETER, END_FUNCTION];
  const tag = tags.find((each) => text.startsWith(each, at));
  if (tag !== undefined) return tag;
  const rest = text.slice(at, at + PARAMETER.length);
  return tags.some((each) => each.startsWith(rest)) ? '' : null;
}

/** The JSON text of arguments. @param schema JSON Schema of the arguments, which tells texts from other values. */
export function jsonOf(values: ReadonlyMap<string, string>, schema: unknown): string {
  const properties = isObject(schema) && isObject(schema.properties) ? schema.properties : {};
  const members = Array.from(values, ([key, text]) => {
    const property = Object.hasOwn(properties, key) ? properties[key] : { type: 'string' };
    return `${JSON.stringify(key)}: ${jsonOfValue(text, property)}`;
  });
  return `{${members.join(', ')}}`;
}

/** JSON of a value that is written as text: of a type that its schema allows, else a text. */
function jsonOfValue(written: string, schema: unknown): string {
  const text = written.replace(/^\r?\n/, '').replace(/\r?\n$/, '');
  const types = typesOf(schema);
  // Python's templates write constants so.
  const constant = /^\s*(true|false|none)\s*$/i.exec(text)?.[1].toLowerCase();
  const json = constant === undefined ? text.trim() : constant === 'none' ? 'null' : constant;
  try {
    const type = typeOf(JSON.parse(json));
    if (type !== 'string' && (types === null || types.has(type))) return json;
    if (type === 'string' && types !== null && !types.has('string')) return json;
  } catch {
    // It is no JSON, so it is a text.
  }
  return JSON.stringify(text);
}

/** The types of JSON that a schema may allow; null for any. */
function typesOf(schema: unknown): Set<string> | null {
  if (!isObject(schema)) return null;
  const { type, enum: values, anyOf, oneOf } = schema;
  if (type !== undefined) {
    const types = new Set<unknown>(Array.isArray(type) ? type : [type]) as Set<string>;
    return types.has('integer') ? types.add('number') : types;
  }
  if (Array.isArray(values)) return new Set(values.map(typeOf));
  if ('const' in schema) return new Set([typeOf(schema.const)]);
  const choices = Array.isArray(anyOf) ? anyOf : oneOf;
  if (!Array.isArray(choices)) return null;
  const all = choices.map(typesOf);
  return all.includes(null) ? null : new Set(all.flatMap((types) => [...types!]));
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
