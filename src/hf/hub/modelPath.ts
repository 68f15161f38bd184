import { stat } from 'node:fs/promises';
import { SgemoeError } from '../../base/errors';
import { isGgufPath } from '../../checkpoint/gguf/ggufFile';
import { parseHubName } from './hubName';
import type { Environment, HubOptions } from './hubOptions';
import { pullFrom } from './pull';

/**
 * The path of a model that a user names: a folder or file of that name, else the hub's model, which is downloaded as `pull`
 * does. A name that can't be one of the hub comes back as it is, for the loader to say what is wrong; so does one whose owner
 * is the name of a folder here ('runs/bok'), unless it begins with 'hf.co/': a mistyped path must not become a download.
 * @throws as `pull`.
 */
export async function modelPath(
  name: string,
  options: HubOptions = {},
  env: Environment = process.env,
): Promise<string> {
  if (typeof name !== 'string' || (await kindOf(name)) !== null) return name;
  const hubName = parseHubName(name);
  if (hubName === null || (!hubName.isExplicit && (await isMeantAsPath(name)))) return name;
  try {
    return await pullFrom(name, options, env);
  } catch (cause) {
    if (!(cause instanceof SgemoeError) || hubName.isExplicit) throw cause;
    throw new SgemoeError(cause.code, `There is no folder or file ${name} here. ${cause.message}`, { cause });
  }
}

async function isMeantAsPath(name: string): Promise<boolean> {
  const [owner] = name.split('/', 1);
  return (isGgufPath(name) && !name.includes(':')) || (await kindOf(owner))?.isDirectory() === true;
}

async function kindOf(path: string) {
  return stat(path).catch(() => null);
}
