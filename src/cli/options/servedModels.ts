import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { servedNames } from '../../serve/http/options';
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

/**
 * For each model its adapters, folders by name, of 'name=folder' for the first or 'model:name=folder'.
 * @throws UsageError for another form, or a name that a model has twice.
 */
export function servedAdapters(
  adapters: readonly string[],
  models: readonly ModelToServe[],
): Record<string, string>[] {
  const folders: Record<string, string>[] = models.map(() => ({}));
  for (const each of adapters) {
    const [, named, folder] = /^(.+?)=(.+)$/.exec(each) ?? [];
    if (named === undefined)
      throw new UsageError(`--adapter ${each}: it must be NAME=FOLDER or MODEL:NAME=FOLDER.`);
    const at = Math.max(
      0,
      models.findIndex((model) => named.startsWith(`${model.name}:`)),
    );
    const prefix = `${models[at].name}:`;
    const name = named.startsWith(prefix) ? named.slice(prefix.length) : named;
    if (Object.hasOwn(folders[at], name))
      throw new UsageError(`Two adapters of ${models[at].name} are called ${name}.`);
    folders[at][name] = folder;
  }
  return folders;
}

/**
 * The names of models by their aliases, of 'alias=name' or, for the first model, 'alias'; a name may be 'model:adapter'.
 * @throws UsageError for another name.
 */
export function servedAliases(
  aliases: readonly string[],
  models: readonly ModelToServe[],
  adapters: readonly Readonly<Record<string, string>>[],
): Record<string, string> {
  const known = models.flatMap(({ name }, i) => servedNames(name, Object.keys(adapters[i])));
  const pairs = aliases.map((each): [string, string] => {
    const [, alias, name] = /^(.+?)=(.*)$/.exec(each) ?? ['', each, models[0].name];
    if (known.includes(name)) return [alias, name];
    throw new UsageError(`--alias ${each}: there is no model '${name}', only ${known.join(', ')}.`);
  });
  return Object.fromEntries(pairs);
}
