import { isDeepStrictEqual } from 'node:util';
import type { Kind } from '../../base/options';
import { badRequest } from './problem';

export type JsonObject = Readonly<Record<string, unknown>>;

/** The deepest nesting of a body that is accepted. */
const MAX_DEPTH = 64;

const decoder = new TextDecoder('utf-8', { fatal: true });

/** The object in a body. @throws Problem unless it is UTF-8, JSON, an object, and nested at most MAX_DEPTH deep. */
export function parseBody(body: Uint8Array): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(body));
  } catch (error) {
    const what = error instanceof SyntaxError ? 'JSON' : 'UTF-8';
    throw badRequest(`The body is not valid ${what}.`, null, 'invalid_body');
  }
  if (isTooDeep(value, MAX_DEPTH)) {
    throw badRequest(`The body is nested more than ${MAX_DEPTH} levels deep.`, null, 'invalid_body');
  }
  return asObject(value);
}

/** @throws Problem unless there is a body and it is an object. */
export function asObject(value: unknown): JsonObject {
  if (isObject(value)) return value;
  throw badRequest(`The body must be a JSON object, got ${describe(value)}.`, null, 'invalid_body');
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTooDeep(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isTooDeep(inner, levels - 1));
}

/** Reads the fields of a body and remembers which were read, so that others can be refused. null counts as absent. */
export class Fields {
  readonly #known = new Set<string>();

  /** @param path prefix of the field names in messages, such as 'stream_options.'. */
  constructor(
    private readonly body: JsonObject,
    private readonly path = '',
  ) {}

  /** The name of a field with its path. */
  nameOf(name: string): string {
    return this.path + name;
  }

  /** The value of a field; undefined if it is absent or null. */
  take(name: string): unknown {
    this.#known.add(name);
    return Object.hasOwn(this.body, name) ? (this.body[name] ?? undefined) : undefined;
  }

  text(name: string): string | undefined {
    return this.#check(name, 'a string', (value) => typeof value === 'string') as string | undefined;
  }

  boolean(name: string): boolean | undefined {
    return this.#check(name, 'true or false', (value) => typeof value === 'boolean') as boolean | undefined;
  }

  /**
   * The value of a field that a row describes. @param faultOf returns the wrong part of a value, for the message.
   * @throws Problem for a value of another type or out of range.
   */
  read<T>(
    name: string,
    kind: Kind<T>,
    faultOf: (value: unknown) => unknown = (value) => value,
  ): T | undefined {
    const value = this.take(name);
    if (value !== undefined && !(kind.isType(value) && kind.holds(value as T))) {
      this.fail(name, kind.must, faultOf(value));
    }
    return value as T | undefined;
  }

  /** The fields of a nested object; undefined if it is absent. */
  object(name: string): Fields | undefined {
    const value = this.#check(name, 'an object', isObject) as JsonObject | undefined;
    return value === undefined ? undefined : new Fields(value, `${this.path}${name}.`);
  }

  /** Accepts fields without effect here. Each may have the listed values, or any value if there is no list. */
  idle(rows: Readonly<Record<string, { readonly values?: readonly unknown[] | undefined }>>): void {
    for (const [name, { values = [] }] of Object.entries(rows)) {
      const value = this.take(name);
      if (value === undefined || values.length === 0) continue;
      if (values.some((each) => isDeepStrictEqual(each, value))) continue;
      const only = values.map((each) => JSON.stringify(each)).join(' or ');
      throw badRequest(`'${this.nameOf(name)}' is not supported here, except as ${only}.`, this.nameOf(name));
    }
  }

  /** Refuses fields of OpenAI's that can't be honoured. @throws Problem with the reason for one that is present. */
  refuse(reasons: Readonly<Record<string, string>>): void {
    for (const [name, reason] of Object.entries(reasons)) {
      if (this.take(name) === undefined) continue;
      throw badRequest(`'${this.path}${name}' is not supported: ${reason}.`, this.path + name);
    }
  }

  /** @throws Problem for a field that was never read. */
  refuseOthers(): void {
    for (const name of Object.keys(this.body)) {
      if (this.#known.has(name)) continue;
      const shown = name.length > 60 ? `${name.slice(0, 60)}...` : name;
      const message = `There is no field '${this.path}${shown}'.`;
      throw badRequest(message, this.path + shown, null, 'There is a field that is not known.');
    }
  }

  /** @throws Problem that names the field, what it must be and what it is. */
  fail(name: string, must: string, value: unknown): never {
    const sentence = `'${this.path}${name}' must be ${must}, got `;
    const logged = `${sentence}${typeof value === 'string' ? 'a string' : describe(value)}.`;
    throw badRequest(`${sentence}${describe(value)}.`, this.path + name, null, logged);
  }

  #check(name: string, must: string, fits: (value: unknown) => boolean): unknown {
    const value = this.take(name);
    if (value !== undefined && !fits(value)) this.fail(name, must, value);
    return value;
  }
}

/** A short description of any value, for a message. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'an array';
  if (isObject(value)) return 'an object';
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 40)}...` : text;
}
