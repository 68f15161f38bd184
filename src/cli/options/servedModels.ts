import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { UsageError } from '../terminal/usageError';

/** A model of `sgemoe serve`. */
export interface ModelToServe {
  /** Its name in requests. */
  readonly name: string;
  /** A path, or its name in the hub. */
  readonly path: string;
}

/**
 * The models that arguments name: `path`, or `name=path` unless that is a path.
 * @param modelName the name of the only model. @throws UsageError without models, or for a name that several have.
 */
export function modelsToServe(args: readonly string[], modelName: string | undefined): ModelToServe[] {
  if (args.length === 0)
    throw new UsageError('serve needs a model: a path, or "models" in the file of --config.');
  if (modelName !== undefined && args.length > 1) {
    throw new UsageError('--model-name names a single model; of several, NAME=PATH names each.');
  }
  const models = args.map((arg) => {
    const [, given, path] = (existsSync(arg) ? null : /^([^=]+)=(.+)$/.exec(arg)) ?? ['', undefined, arg];
    return { name: given ?? modelName ?? basename(resolve(path)), path };
  });
  const names = models.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice === undefined) return models;
  throw new UsageError(`Two models are called ${twice}; NAME=PATH gives one of them another name.`);
}

/** The names of models by their aliases, of 'alias=name' or, for the first model, 'alias'. @throws UsageError for another name. */
export function servedAliases(
  aliases: readonly string[],
  models: readonly ModelToServe[],
): Record<string, string> {
  const pairs = aliases.map((each): [string, string] => {
    const [, alias, name] = /^(.+?)=(.*)$/.exec(each) ?? ['', each, models[0].name];
    if (models.some((model) => model.name === name)) return [alias, name];
    const names = models.map((model) => model.name).join(', ');
    throw new UsageError(`--alias ${each}: there is no model '${name}', only ${names}.`);
  });
  return Object.fromEntries(pairs);
}
