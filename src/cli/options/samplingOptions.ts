import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { SgemoeError } from '../../base/errors';
import { withChanges } from '../../base/options';
import { CHECKPOINT_OPTIONS } from '../../sampling/checkpointSampling';
import { constraintOf, type JsonSchema } from '../../sampling/constraints/options';
import { SAMPLING_OPTIONS, type SamplingOptions } from '../../sampling/options';
import { asUsage, UsageError } from '../terminal/usageError';
import { addTableOptions, flagDefaults, fromFlags } from './tableOptions';
import { integer } from './values';

/** Adds the flags of SamplingOptions, which say how tokens are chosen and where the text ends. */
export function addSamplingOptions(command: Command, table = SAMPLING_OPTIONS): Command {
  return addTableOptions(command, withoutDefaults(table), {
    collected: {
      logitBias: { parse: addBias, first: new Map<number, number>() },
      stop: { parse: collect((text) => text), first: [] },
      choice: { parse: collect((text) => text), first: [] },
      stopTokens: { parse: collect(integer(0)), first: [] },
    },
  });
}

/** The options that a checkpoint may choose get no value without their flags. */
function withoutDefaults(table: typeof SAMPLING_OPTIONS): typeof SAMPLING_OPTIONS {
  const changed = CHECKPOINT_OPTIONS.map((name) => {
    const { cli, absent, default: value } = table[name];
    const otherwise = cli!.default ?? absent ?? value;
    return [
      name,
      { ...table[name], cli: { ...cli!, default: undefined, absent: `the checkpoint's, else ${otherwise}` } },
    ];
  });
  return { ...table, ...Object.fromEntries(changed) };
}

/** The flags' values over those of the checkpoint, over the flags' defaults. */
export function overCheckpoint<T extends SamplingOptions>(checkpoint: SamplingOptions, flags: T): T {
  const { temperature } = flagDefaults(SAMPLING_OPTIONS);
  return withChanges({ temperature, ...checkpoint } as T, flags);
}

/** Adds the same flags for answers, whose length the context alone limits by default. */
export function addAnswerOptions(command: Command): Command {
  const { maxTokens, ...others } = SAMPLING_OPTIONS;
  const { default: _, ...cli } = maxTokens.cli!;
  return addSamplingOptions(command, { maxTokens: { ...maxTokens, cli }, ...others });
}

/** Turns the flags of `addSamplingOptions` into options of the library. */
export function samplingOptions(flags: object): SamplingOptions & { maxTokens: number } {
  return answerOptions(flags) as SamplingOptions & { maxTokens: number };
}

/** Turns the flags of `addAnswerOptions` into options of the library. */
export function answerOptions(flags: object): SamplingOptions {
  const options = fromFlags(SAMPLING_OPTIONS, flags);
  const { grammar, jsonSchema } = options as { grammar?: string; jsonSchema?: string };
  if (grammar !== undefined) options.grammar = readOptionFile('--grammar', grammar);
  if (jsonSchema !== undefined) options.jsonSchema = readSchemaFile(jsonSchema);
  asUsage(() => constraintOf(options));
  return options;
}

function readSchemaFile(path: string): JsonSchema {
  const text = readOptionFile('--json-schema', path);
  try {
    return JSON.parse(text) as JsonSchema;
  } catch (error) {
    throw new SgemoeError('SGEMOE_CONSTRAINT_INVALID', `${path} is not JSON: ${(error as Error).message}`);
  }
}

function readOptionFile(flag: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`${flag}: ${path} can't be read: ${(error as Error).message}`);
  }
}

function addBias(text: string, biases: Map<number, number>): Map<number, number> {
  const [, id, bias] = /^(\d+)=(-Infinity|[-+\d.e]+)$/i.exec(text) ?? [];
  if (id === undefined || Number.isNaN(Number(bias))) {
    throw new InvalidArgumentError("It must be a token id, '=' and a number, such as 13=-5.");
  }
  return new Map(biases).set(Number(id), Number(bias));
}

function collect<T>(parse: (text: string) => T): (text: string, values: T[]) => T[] {
  return (text, values) => [...values, parse(text)];
}
