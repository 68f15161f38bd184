/**
 * A family of options is a table with one row an option: its range, default, command-line flag and a sentence. Checks,
 * defaults, the command line and the tables of the documentation come from the rows. The family's type stands beside its
 * table; the compiler checks that both have the same fields.
 */
import { checkOptions } from './checks';

/** The range of a number. */
export interface Range {
  min?: number | undefined;
  /** Excluded lower end. */
  above?: number | undefined;
  max?: number | undefined;
  /** Excluded upper end. */
  below?: number | undefined;
}

/** What values an option takes. `T` is their type. */
export interface Kind<T> {
  /** What a value must be; it completes "must be ...": 'an integer >= 1'. */
  readonly must: string;
  /** What its type must be, in the same form: 'a number'. */
  readonly type: string;
  readonly isType: (value: unknown) => boolean;
  /** Whether a value of the type is in range. */
  readonly holds: (value: T) => boolean;
  /** The words that the value (or each element of a list) can be, where they are known. */
  readonly words?: readonly string[] | undefined;
  /** The same as a JSON Schema (draft 2020-12), where the values are JSON. */
  readonly schema?: JsonSchemaObject | undefined;
}

/** A JSON Schema that is an object. */
export type JsonSchemaObject = Readonly<Record<string, unknown>>;

/** The documentation of an option, and its defaults. */
export interface OptionInfo<T> {
  /** What it does, in a line without range and default. */
  readonly doc: string;
  /** What a special value means, such as '0 is off'. */
  readonly note?: string | undefined;
  /** Replaces undefined. */
  readonly default?: T | undefined;
  /** The documented default where undefined has its own meaning, such as 'all', or where `default` reads badly. */
  readonly absent?: string | undefined;
  /** Its flag on the command line; undefined if it has none. */
  readonly cli?: CliOption<T> | undefined;
}

/** An option's flag, and where it differs from the option. */
export interface CliOption<T> {
  /** The flag in commander's form: '--lr <x>'. */
  readonly flag: string;
  readonly doc?: string | undefined;
  readonly note?: string | undefined;
  /** Replaces the option's default. */
  readonly default?: unknown;
  /** What help says when the flag has no default; the option's default then applies. */
  readonly absent?: string | undefined;
  /** What the flag takes, where its name, unit or range differs from the option's. */
  // biome-ignore lint/suspicious/noExplicitAny: its values are the command line's, which toOption takes.
  readonly kind?: Kind<any> | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: as `kind`.
  readonly toOption?: ((value: any) => T) | undefined;
}

/** A row of a table. Without a default and `absent`, the option is required. */
export type OptionRow<T> = Kind<T> & OptionInfo<T>;

/** A row for each field of `T`: the compiler rejects a field without a row and a row without a field. */
export type OptionTable<T> = { readonly [K in keyof Required<T>]: OptionRow<Exclude<T[K], undefined>> };

/** A number in a range. `or` (null or Infinity) is accepted too; without it the number must be finite. */
export function number<T = number>(range: Range, info: OptionInfo<T>, or?: null | number): OptionRow<T> {
  const isOpen = or !== Number.POSITIVE_INFINITY && range.max === undefined && range.below === undefined;
  const orNull = or === null ? ' or null' : '';
  return {
    ...info,
    must: `${isOpen ? 'a finite number' : 'a number'}${inWords(range)}${orNull}`,
    type: `a number${orNull}`,
    isType: (value) => typeof value === 'number' || (or === null && value === null),
    holds: (value) => value === or || (Number.isFinite(value) && isWithin(value as number, range)),
    schema: { type: or === null ? ['number', 'null'] : 'number', ...limits(range) },
  };
}

/** An integer in a range. `or` (Infinity) is accepted too. */
export function integer<T = number>(range: Range, info: OptionInfo<T>, or?: number): OptionRow<T> {
  return {
    ...info,
    must: `an integer${inWords(range)}`,
    type: 'a number',
    isType: (value) => typeof value === 'number',
    holds: (value) => value === or || (Number.isSafeInteger(value) && isWithin(value as number, range)),
    schema: { type: 'integer', ...limits(SAFE), ...limits(range) },
  };
}

const SAFE: Range = { min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER };

/** A range in the keywords of JSON Schema. */
function limits({ min, above, max, below }: Range): JsonSchemaObject {
  return {
    ...(min !== undefined && { minimum: min }),
    ...(above !== undefined && { exclusiveMinimum: above }),
    ...(max !== undefined && { maximum: max }),
    ...(below !== undefined && { exclusiveMaximum: below }),
  };
}

/** A list of integers in a range. */
export function integers(range: Range, info: OptionInfo<readonly number[]>): OptionRow<readonly number[]> {
  return {
    ...info,
    must: `a list of integers${inWords(range)}`,
    type: 'a list',
    isType: Array.isArray,
    holds: (value) => value.every((each) => Number.isSafeInteger(each) && isWithin(each, range)),
  };
}

export function boolean(info: OptionInfo<boolean>): OptionRow<boolean> {
  const must = 'a boolean';
  return {
    ...info,
    must,
    type: must,
    isType: (value) => typeof value === 'boolean',
    holds: () => true,
    schema: { type: 'boolean' },
  };
}

/** One of some words. */
export function choice<T extends string>(words: readonly T[], info: OptionInfo<T>): OptionRow<T> {
  const must = words.map((word) => `'${word}'`).join(' or ');
  return {
    ...info,
    must,
    type: must,
    words,
    isType: (value) => typeof value === 'string',
    holds: (value) => words.includes(value),
    schema: { enum: [...words] },
  };
}

/** A list of some words. */
export function someOf<T extends string>(
  words: readonly T[],
  info: OptionInfo<readonly T[]>,
): OptionRow<readonly T[]> {
  return {
    ...info,
    must: `some of ${words.join(', ')}`,
    type: 'a list',
    words,
    isType: Array.isArray,
    holds: (value) => value.every((each) => words.includes(each)),
  };
}

/** A list of texts that aren't empty, at least one. */
export function texts(info: OptionInfo<readonly string[]>): OptionRow<readonly string[]> {
  return {
    ...info,
    must: 'a list of texts, at least one and none empty',
    type: 'a list',
    isType: Array.isArray,
    holds: (value) => value.length > 0 && value.every((each) => typeof each === 'string' && each !== ''),
  };
}

/** A text that isn't empty. */
export function text(info: OptionInfo<string>): OptionRow<string> {
  return other(
    'a text that is not empty',
    (value) => typeof value === 'string',
    info,
    (value) => value !== '',
  );
}

/** A value of any other type, which `isType` checks. */
export function other<T>(
  must: string,
  isType: (value: unknown) => boolean,
  info: OptionInfo<T> & Pick<Kind<T>, 'schema'>,
  holds: (value: T) => boolean = () => true,
): OptionRow<T> {
  return { ...info, must, type: must, isType, holds };
}

/** Whether a value is an object of texts by name, none of them empty. */
export function isRecordOfTexts(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.entries(value).every((entry) =>
    entry.every((each) => typeof each === 'string' && each !== ''),
  );
}

/** The options that a table knows, of several families in one object. */
export function ownOptions<T>(table: OptionTable<T>, options: Some<T>): Some<T> {
  return Object.fromEntries(namesOf(table).map((name) => [name, options[name]])) as Some<T>;
}

/** Some fields of `T`; an undefined field counts as absent. */
export type Some<T> = { [K in keyof T]?: T[K] | undefined };

/** `base` with the fields of `changes` that aren't undefined. */
export function withChanges<T extends object>(base: T, changes: Some<T>): T {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  return { ...base, ...(Object.fromEntries(given) as Partial<T>) };
}

/** The option names of a table, in its order. */
export function namesOf<T>(table: OptionTable<T>): (keyof T & string)[] {
  return Object.keys(table) as (keyof T & string)[];
}

/**
 * The options, with defaults in place of undefined and frozen copies of lists. Messages begin with `where`: 'TrainConfig: '.
 * @throws TypeError for an option that is unknown, missing or of another type, RangeError for one out of range.
 */
export function resolveOptions<T>(where: string, table: OptionTable<T>, given: Some<T>): T {
  checkOptions(where, given, namesOf(table));
  const resolved: Record<string, unknown> = {};
  for (const name of namesOf(table)) {
    const row = table[name];
    const value = given[name] ?? (given[name] === null ? null : row.default);
    if (value === undefined && row.absent === undefined) throw new TypeError(`${where}: ${name} is missing`);
    if (value !== undefined) checkValue(`${where}: ${name}`, row, value);
    resolved[name] = Array.isArray(value) ? Object.freeze([...value]) : value;
  }
  return resolved as T;
}

/** @throws TypeError for a value of another type, RangeError for one out of range. */
export function checkValue<T>(what: string, kind: Kind<T>, value: unknown): void {
  if (!kind.isType(value)) throw new TypeError(`${what} must be ${kind.type}, got ${typed(value)}`);
  if (!kind.holds(value as T)) throw new RangeError(`${what} must be ${kind.must}, got ${String(value)}`);
}

/** Describes a value of the wrong type, with its type. */
function typed(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' || typeof value === 'function'
    ? typeof value
    : `${typeof value} ${String(value)}`;
}

export function isWithin(value: number, { min, above, max, below }: Range): boolean {
  return (
    (min === undefined || value >= min) &&
    (above === undefined || value > above) &&
    (max === undefined || value <= max) &&
    (below === undefined || value < below)
  );
}

/** A range in words that follow 'a number', with a leading space: ' >= 0 and < 1'; '' for a range without ends. */
export function inWords({ min, above, max, below }: Range): string {
  const parts = [
    min === undefined ? '' : `>= ${numeral(min)}`,
    above === undefined ? '' : `> ${numeral(above)}`,
    max === undefined ? '' : `<= ${numeral(max)}`,
    below === undefined ? '' : `< ${numeral(below)}`,
  ].filter((part) => part !== '');
  return parts.length === 0 ? '' : ` ${parts.join(' and ')}`;
}

const SHORT_BITS = 20;

/** Writes large and tiny powers of two as powers. */
function numeral(value: number): string {
  const bits = Math.log2(value);
  return Number.isInteger(bits) && Math.abs(bits) > SHORT_BITS ? `2^${bits}` : String(value);
}
