import { SgemoeError } from '../../base/errors';

/** The deepest nesting of stages; a deeper one isn't a real tokenizer and would overflow the stack. */
const MOST_NESTED = 32;

/**
 * Reads the settings of one object of tokenizer.json and checks their types. A missing setting has its default; one of
 * another type is refused, as in `tokenizers`, with its path.
 */
export class Settings {
  readonly #values: Readonly<Record<string, unknown>>;

  /**
   * @param path of the object, such as "pre_tokenizer.pretokenizers[0]".
   * @throws SgemoeError SGEMOE_TOKENIZER_INVALID unless `value` is an object.
   */
  constructor(
    value: unknown,
    readonly path: string,
    private readonly depth = 0,
  ) {
    if (!isObject(value)) throw wrong(path, 'an object', value);
    if (depth > MOST_NESTED) throw invalid(`"${path}" stands more than ${MOST_NESTED} levels deep`);
    this.#values = value;
  }

  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  string(name: string, otherwise?: string): string {
    const value = this.#get(name) ?? otherwise;
    return typeof value === 'string' ? value : this.refuse(name, 'a text');
  }

  optionalString(name: string): string | null {
    return this.#get(name) == null ? null : this.string(name);
  }

  /** One character, a Unicode code point. */
  character(name: string, otherwise?: string): string {
    const value = this.string(name, otherwise);
    return [...value].length === 1 ? value : this.refuse(name, 'one character');
  }

  boolean(name: string, otherwise?: boolean): boolean {
    const value = this.#get(name) ?? otherwise;
    return typeof value === 'boolean' ? value : this.refuse(name, 'true or false');
  }

  optionalBoolean(name: string): boolean | null {
    return this.#get(name) == null ? null : this.boolean(name);
  }

  integer(name: string, low: number, high: number, otherwise?: number): number {
    const value = this.#get(name) ?? otherwise;
    if (Number.isInteger(value) && (value as number) >= low && (value as number) <= high) {
      return value as number;
    }
    return this.refuse(name, `an integer in [${low}, ${high}]`);
  }

  optionalInteger(name: string, low: number, high: number): number | null {
    return this.#get(name) == null ? null : this.integer(name, low, high);
  }

  number(name: string, otherwise?: number): number {
    const value = this.#get(name) ?? otherwise;
    return typeof value === 'number' && Number.isFinite(value) ? value : this.refuse(name, 'a number');
  }

  oneOf<T extends string>(name: string, values: readonly T[], otherwise?: T): T {
    const value = this.#get(name) ?? otherwise;
    const found = values.find((each) => each === value);
    return found ?? this.refuse(name, `one of ${values.join(', ')}`);
  }

  array(name: string): readonly unknown[] {
    const value = this.#get(name);
    return Array.isArray(value) ? value : this.refuse(name, 'a list');
  }

  object(name: string): Settings {
    return new Settings(this.#get(name), this.#pathOf(name), this.depth + 1);
  }

  /** The settings of a nested object; null if it is null or missing. */
  optionalObject(name: string): Settings | null {
    return this.#get(name) == null ? null : this.object(name);
  }

  objects(name: string): Settings[] {
    return this.array(name).map(
      (value, i) => new Settings(value, `${this.#pathOf(name)}[${i}]`, this.depth + 1),
    );
  }

  entries(): [string, unknown][] {
    return Object.entries(this.#values);
  }

  /** @throws SgemoeError SGEMOE_TOKENIZER_INVALID, which says what was expected of a setting and what arrived. */
  refuse(name: string, expected: string): never {
    throw wrong(this.#pathOf(name), expected, this.#get(name));
  }

  #get(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
  }

  #pathOf(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function invalid(message: string, cause?: unknown): SgemoeError {
  const text = `tokenizer.json can not be used: ${message}.`;
  return new SgemoeError('SGEMOE_TOKENIZER_INVALID', text, { cause });
}

/** The JSON of a value, shortened if it is long. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

function wrong(path: string, expected: string, value: unknown): SgemoeError {
  const name = path === '' ? 'it' : `"${path}"`;
  return invalid(`${name} must be ${expected}, got ${show(value)}`);
}
