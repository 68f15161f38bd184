/** Turns a table of options into flags of the command line, and their values back into options. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type CliOption, type Kind, namesOf, type OptionRow, type OptionTable } from '../../base/options';

// biome-ignore lint/suspicious/noExplicitAny: rows of any type.
type AnyRow = OptionRow<any>;

export interface TableFlags {
  /** Says a default in words where it depends on another flag, which then has no value of its own. */
  defaultText?: (value: unknown) => string;
  /** For each option whose flag may be repeated: the parser and the initial value. */
  collected?: Record<string, Collector>;
  /** What another command's flags say and default to, by option. */
  changes?: Record<string, Partial<CliOption<unknown>>>;
}

/** The options whose flag may be repeated, and whose parser collects the values. */
const repeatable = new WeakSet<Option>();

export function isRepeatable(option: Option): boolean {
  return repeatable.has(option);
}

interface Collector {
  parse: (text: string, before: never) => unknown;
  first: unknown;
}

/** Adds a flag that may be repeated. */
export function addRepeatable(command: Command, flag: string, doc: string, collector: Collector): Command {
  return command.addOption(collecting(new Option(flag, doc), collector));
}

function collecting(option: Option, { parse, first }: Collector): Option {
  repeatable.add(option);
  return option.argParser<unknown>((text, before) => parse(text, (before ?? first) as never));
}

/** Adds the flags of a table, in its order. */
export function addTableOptions<T>(
  command: Command,
  table: OptionTable<T>,
  { defaultText, collected = {}, changes = {} }: TableFlags = {},
): Command {
  for (const [name, row] of Object.entries<AnyRow>(table)) {
    if (row.cli === undefined) continue;
    const option = optionOf(row, { ...row.cli, ...changes[name] }, defaultText);
    const collector = collected[name];
    command.addOption(collector === undefined ? option : collecting(option, collector));
  }
  return command;
}

/** The parsed flags as options of the library, without those that have neither a value nor a default. */
export function fromFlags<T>(table: OptionTable<T>, values: object): Partial<T> {
  const options: Partial<T> = {};
  for (const name of namesOf(table)) {
    const { cli } = table[name];
    const value = cli && (values as Record<string, unknown>)[attributeOf(cli.flag)];
    if (value !== undefined) options[name] = (cli?.toOption?.(value) ?? value) as T[typeof name];
  }
  return options;
}

/** A table's option -> its flag: '--kv-heads'. */
export function flagsOf<T>(table: OptionTable<T>): Map<string, string> {
  return new Map(
    namesOf(table).flatMap((name) => {
      const { cli } = table[name];
      return cli === undefined ? [] : [[name, cli.flag.split(' ')[0]]];
    }),
  );
}

/** The names under which commander keeps the values of a table's flags: 'kvHeads'. */
export function attributesOf<T>(table: OptionTable<T>): string[] {
  return [...flagsOf(table).values()].map(attributeOf);
}

/** The defaults of a table's flags, by option. */
export function flagDefaults<T>(table: OptionTable<T>): Partial<T> {
  const defaults: Partial<T> = {};
  for (const name of namesOf(table)) {
    const value = table[name].cli?.default;
    if (value !== undefined) defaults[name] = value as T[typeof name];
  }
  return defaults;
}

/** A parser of a flag's value; undefined for a kind that needs none. */
export function parserOf({
  type,
  must,
  isType,
  holds,
}: Kind<never>): ((text: string) => unknown) | undefined {
  if (isType('')) {
    return (text) => {
      if (holds(text as never)) return text;
      throw new InvalidArgumentError(`It must be ${must}.`);
    };
  }
  if (!type.startsWith('a number')) return undefined;
  return (text) => {
    const value = Number(text);
    const isNumeral = must.startsWith('an integer') ? /^[+-]?\d+$/.test(text) : text.trim() !== '';
    if (isNumeral && Number.isFinite(value) && holds(value as never)) return value;
    throw new InvalidArgumentError(`It must be ${inHelp(must)}.`);
  };
}

function optionOf(row: AnyRow, cli: CliOption<unknown>, defaultText?: (value: unknown) => string): Option {
  const kind = cli.kind ?? row;
  const value = cli.default ?? row.default;
  const isTold = cli.default === undefined && row.absent !== undefined;
  const absent = cli.absent ?? (isTold ? row.absent : defaultText?.(value));
  const description = [
    cli.doc ?? row.doc,
    kind.type.startsWith('a number') ? `, ${inHelp(kind.must)}` : '',
    (cli.note ?? row.note) === undefined ? '' : `; ${cli.note ?? row.note}`,
    absent === undefined ? '' : ` (default: ${absent})`,
  ].join('');
  const option = new Option(cli.flag, description);
  if (kind.words !== undefined) option.choices(kind.words);
  else option.parseArg = parserOf(kind) as typeof option.parseArg;
  return absent === undefined ? option.default(value) : option;
}

/** A range in words for help, without Infinity and 2^31, which nobody types. */
function inHelp(must: string): string {
  return must.replace('finite ', '').replace(' and < 2^31', '');
}

function attributeOf(flag: string): string {
  return new Option(flag).attributeName();
}
