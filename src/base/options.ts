/**
 * Families of options as tables: one row an option, with what it may be, its default, its flag on the command line and a
 * sentence. Checks, defaults, the command line and the tables of the documentation come from the rows; a family's types
 * stand beside its table, which the compiler holds equal to them.
 */
import { checkOptions } from './checks';

/** Where a number may lie. */
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
  /** What a value must be, in words that go on after "must be": 'an integer >= 1'. */
  readonly must: string;
  /** What its type must be, in such words: 'a number'. */
  readonly type: string;
  readonly isType: (value: unknown) => boolean;
  /** Whether a value of the type is in range. */
  readonly holds: (value: T) => boolean;
  /** The words that it, or each of a list, can be, where these are known. */
  readonly words?: readonly string[] | undefined;
}

/** What is told of an option, and its defaults. */
export interface OptionInfo<T> {
  /** What it does, in a line without its range and its default. */
  readonly doc: string;
  /** What a value of its own means, such as '0 is off'. */
  readonly note?: string | undefined;
  /** Stands for undefined. */
  readonly default?: T | undefined;
  /** What documentation tells where undefined has a meaning of its own, such as 'all', or the default can't be read. */
  readonly absent?: string | undefined;
  /** How the command line has it. None: it hasn't. */
  readonly cli?: CliOption<T> | undefined;
}

/** How an option's flag differs from the option, where it does. */
export interface CliOption<T> {
  /** As commander takes it: '--lr <x>'. */
  readonly flag: string;
  readonly doc?: string | undefined;
  readonly note?: string | undefined;
  /** In place of the option's default. */
  readonly default?: unknown;
  /** What help tells where the flag has no default. The option's default then counts. */
  readonly absent?: string | undefined;
  /** What the flag takes, where its name, unit or range is another one than the option's. */
  // biome-ignore lint/suspicious/noExplicitAny: its values are the command line's, which toOption takes.
  readonly kind?: Kind<any> | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: as `kind`.
  readonly toOption?: ((value: any) => T) | undefined;
}

/** A row of a table. Without a default and `absent`, the option is required. */
export type OptionRow<T> = Kind<T> & OptionInfo<T>;

/** A row for each field of `T`: a field without a row, or a row without a field, is an error of the compiler. */
export type OptionTable<T> = { readonly [K in keyof Required<T>]: OptionRow<Exclude<T[K], undefined>> };

/** A number in a range. `or`, null or Infinity, is taken too; without it the number must be finite. */
export function number<T = number>(range: Range, info: OptionInfo<T>, or?: null | number): OptionRow<T> {
  const isOpen = or !== Number.POSITIVE_INFINITY && range.max === undefined && range.below === undefined;
  const orNull = or === null ? ' or null' : '';
  return {
    ...info,
    must: `${isOpen ? 'a finite number' : 'a number'}${inWords(range)}${orNull}`,
    type: `a number${orNull}`,
    isType: (value) => typeof value === 'number' || (or === null && value === null),
    holds: (value) => value === or || (Number.isFinite(value) && isWithin(value as number, range)),
  };
}

/** An integer in a range. `or`, Infinity, is taken too. */
export function integer<T = number>(range: Range, info: OptionInfo<T>, or?: number): OptionRow<T> {
  return {
    ...info,
    must: `an integer${inWords(range)}`,
    type: 'a number',
    isType: (value) => typeof value === 'number',
    holds: (value) => value === or || (Number.isSafeInteger(value) && isWithin(value as number, range)),
  };
}

export function boolean(info: OptionInfo<boolean>): OptionRow<boolean> {
  const must = 'a boolean';
  return { ...info, must, type: must, isType: (value) => typeof value === 'boolean', holds: () => true };
}

/** One of some words. */
export function choice<T extends string>(words: readonly T[], info: OptionInfo<T>): OptionRow<T> {
  const must = words.map((word) => `'${word}'`).join(' or ');
  return {
    ...info,
    ...{ must, type: must, words },
    isType: (value) => typeof value === 'string',
    holds: (value) => words.includes(value),
  };
}

/** A list of some words. */
export function someOf<T extends string>(
  words: readonly T[],
  info: OptionInfo<readonly T[]>,
): OptionRow<readonly T[]> {
  return {
    ...info,
    ...{ must: `some of ${words.join(', ')}`, type: 'a list', words },
    isType: Array.isArray,
    holds: (value) => value.every((each) => words.includes(each)),
  };
}

/** Anything else: `isType` decides. */
export function other<T>(
  must: string,
  isType: (value: unknown) => boolean,
  info: OptionInfo<T>,
  holds: (value: T) => boolean = () => true,
): OptionRow<T> {
  return { ...info, must, type: must, isType, holds };
}

/** Some fields of `T`; undefined is as none. */
export type Some<T> = { [K in keyof T]?: T[K] | undefined };

/** `base` with the fields that `changes` gives: undefined gives nothing. */
export function withChanges<T extends object>(base: T, changes: Some<T>): T {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  return { ...base, ...(Object.fromEntries(given) as Partial<T>) };
}

/** The names of a table, in its order. */
export function namesOf<T>(table: OptionTable<T>): (keyof T & string)[] {
  return Object.keys(table) as (keyof T & string)[];
}

/**
 * The options with the defaults in place of undefined; a list is a frozen copy. `where` comes first in messages: 'TrainConfig: '.
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

/** A value of a type that is wrong, with the type. */
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

/** A range after 'a number', with the space before it: ' >= 0 and < 1'; '' where there is no end. */
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

/** Large and tiny powers of two as powers. */
function numeral(value: number): string {
  const bits = Math.log2(value);
  return Number.isInteger(bits) && Math.abs(bits) > SHORT_BITS ? `2^${bits}` : String(value);
}
