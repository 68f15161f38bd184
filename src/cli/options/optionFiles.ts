import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command, Option } from 'commander';
import { CommanderError } from 'commander';
import { SgemoeError } from '../../base/errors';
import { readJsonFile } from '../../checkpoint/jsonFile';
import { parseHubName } from '../../hf/hub/hubName';
import { UsageError } from '../terminal/usageError';
import { TOKENIZER_NAMES } from './dataOptions';
import { MODEL_FLAGS } from './recipe';
import { isRepeatable } from './tableOptions';

/** Options that belong to one start of a run, not to the run. */
const NOT_STORED = ['config', 'resume', 'overwrite', 'help', 'commTimeout', 'expertParallel'];

/** Options that can't change when a run is resumed: the model, the data and their order. */
const FIXED = [
  ...MODEL_FLAGS,
  'tokenizer',
  'vocabSize',
  'validationFraction',
  'seqLen',
  'batchSize',
  'seed',
  'initFrom',
  'validation',
  'lossOn',
  'train',
  'loraTargets',
  'loraRank',
  'loraAlpha',
  'rslora',
  'loraDropout',
  'tooLong',
  'epochs',
];

/** Options that are paths; --tokenizer is one too, unless it is a name. It and --init-from may name a model of the hub. */
const PATHS = ['data', 'out', 'initFrom', 'validation'];

const FROM_FILE = 'config';

/** The options that repeat or resume a run, in the form of --config, independent of the working directory. */
export function storableOptions(command: Command): Record<string, unknown> {
  const stored: Record<string, unknown> = {};
  for (const option of command.options) {
    const key = option.attributeName();
    const value = command.getOptionValue(key);
    if (!NOT_STORED.includes(key) && value !== undefined) stored[key] = storedForm(key, value);
  }
  return stored;
}

/**
 * Takes the options of a JSON file; the command line takes precedence.
 * @throws UsageError for a file that can't be read, an unknown option or an impossible value.
 */
export async function applyConfigFile(command: Command, path: string): Promise<void> {
  applyOptions(command, await readConfigFile(path), `--config ${path}`);
}

/** The options in a file for --config. @throws UsageError for a file that can't be read. */
export async function readConfigFile(path: string): Promise<Record<string, unknown>> {
  const json = await readOptions(path, '--config').catch((error: Error) => {
    throw error instanceof UsageError
      ? error
      : new UsageError(`--config: ${error.message}`, { cause: error });
  });
  // In a run.json, only the key `options` holds options.
  const isRun = typeof json.sgemoe === 'string' && typeof json.options === 'object';
  return isRun ? (json.options as Record<string, unknown>) : json;
}

/**
 * Takes the options that a run was started with; the command line and --config take precedence.
 * @throws UsageError if those change an option that can't change, SgemoeError SGEMOE_CONFIG_INVALID for a damaged file.
 */
export async function applyStoredOptions(command: Command, path: string): Promise<void> {
  const { options } = await readOptions(path, '--resume');
  if (typeof options !== 'object' || options === null) {
    throw new SgemoeError('SGEMOE_CONFIG_INVALID', `${path} names no options.`);
  }
  const stored = options as Record<string, unknown>;
  for (const key of FIXED) {
    const source = command.getOptionValueSource(key);
    if (source !== 'cli' && source !== FROM_FILE) continue;
    const [was, is] = [stored[key], command.getOptionValue(key)].map((value) => storedForm(key, value));
    if (JSON.stringify(was) === JSON.stringify(is)) continue;
    throw new UsageError(
      `--resume goes on with the run's own ${flagOf(command, key)} (${was ?? 'default'}); it can't become ${is}.`,
    );
  }
  try {
    applyOptions(command, stored, path);
  } catch (cause) {
    // Nobody typed these values.
    if (!(cause instanceof UsageError)) throw cause;
    throw new SgemoeError('SGEMOE_CONFIG_INVALID', cause.message, { cause });
  }
}

async function readOptions(path: string, flag: string): Promise<Record<string, unknown>> {
  const json = await readJsonFile(path, 'SGEMOE_CONFIG_INVALID');
  if (json === null) throw new UsageError(`${flag}: there is no ${path}.`);
  return json;
}

/** Takes options as the command line would, which takes precedence. @throws UsageError for an unknown one or an impossible value. */
export function applyOptions(command: Command, values: Record<string, unknown>, where: string): void {
  const options = new Map(command.options.map((option) => [option.attributeName(), option]));
  for (const name of NOT_STORED) options.delete(name);
  for (const [key, value] of Object.entries(values)) {
    const option = options.get(key);
    if (option === undefined) {
      throw new UsageError(`${where}: unknown option '${key}'; known: ${[...options.keys()].join(', ')}.`);
    }
    if (value === null) continue;
    const parsed = parse(option, value, `${where}: ${key}`);
    const source = command.getOptionValueSource(key);
    if (source !== 'cli' && source !== FROM_FILE) command.setOptionValueWithSource(key, parsed, FROM_FILE);
  }
}

/** Parses a value as the command line would. */
function parse(option: Option, value: unknown, what: string): unknown {
  if (isRepeatable(option)) {
    const list: unknown[] = Array.isArray(value) ? value : [value];
    return list.reduce((before, each) => parseOne(option, textual(each, what), what, before), undefined);
  }
  if (option.variadic) {
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (list.length === 0 || list.some((each) => typeof each !== 'string')) {
      throw new UsageError(`${what} must be a list of texts, got ${JSON.stringify(value)}.`);
    }
    for (const each of list) parseOne(option, each, what);
    return list;
  }
  if (!option.required) {
    if (typeof value === 'boolean') return value;
    throw new UsageError(`${what} must be true or false, got ${JSON.stringify(value)}.`);
  }
  return parseOne(option, textual(value, what), what);
}

function textual(value: unknown, what: string): unknown {
  if (typeof value === 'string' || typeof value === 'number') return value;
  throw new UsageError(`${what} must be a text or a number, got ${JSON.stringify(value)}.`);
}

/** @param before what a repeatable option has collected. */
function parseOne(option: Option, value: unknown, what: string, before?: unknown): unknown {
  try {
    return option.parseArg === undefined ? String(value) : option.parseArg(String(value), before as never);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    throw new UsageError(`${what} can't be ${JSON.stringify(value)}. ${error.message}`);
  }
}

function storedForm(key: string, value: unknown): unknown {
  if (typeof value === 'string' && isPath(key, value)) return resolve(value);
  if (Array.isArray(value) && isPath(key)) return value.map((each) => resolve(each));
  return textOf(value);
}

function isPath(key: string, value = ''): boolean {
  if ((key === 'initFrom' || key === 'tokenizer') && parseHubName(value) !== null && !existsSync(value))
    return false;
  return PATHS.includes(key) || (key === 'tokenizer' && !TOKENIZER_NAMES.includes(value));
}

/** A value that JSON can't hold, in its form on the command line. */
function textOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const [[unit, count]] = Object.entries(value);
  return unit === 'minutes' ? `${count}m` : count;
}

function flagOf(command: Command, key: string): string {
  return command.options.find((option) => option.attributeName() === key)?.long ?? key;
}
