import { stat } from 'node:fs/promises';
import { SgemoeError } from '../../base/errors';
import { isGgufPath } from '../../checkpoint/gguf/ggufFile';
import { parseHubName } from './hubName';
import type { Environment } from './hubOptions';
import { type PullOptions, pullFrom } from './pull';

/**
 * The path of a model that a user names: the name itself, or where the model of the hub is that it means, which is downloaded as
 * `pull` does. @throws as `pull`.
 */
export async function modelPath(
  name: string,
  options: PullOptions = {},
  env: Environment = process.env,
): Promise<string> {
  if (!(await isOfHub(name))) return name;
  try {
    return await pullFrom(name, options, env);
  } catch (cause) {
    if (!(cause instanceof SgemoeError) || parseHubName(name)?.isExplicit) throw cause;
    throw new SgemoeError(cause.code, `There is no folder or file ${name} here. ${cause.message}`, { cause });
  }
}

/**
 * Whether a name means a model of the hub. A folder or file of that name comes first. So does a folder of the owner's name
 * ('runs/bok' beside 'runs/book'), unless the name begins with 'hf.co/': a mistyped path must not become a download. Loaders
 * say what is wrong with a name that means neither.
 */
export async function isOfHub(name: string): Promise<boolean> {
  if (typeof name !== 'string' || (await kindOf(name)) !== null) return false;
  const hubName = parseHubName(name);
  return hubName !== null && (hubName.isExplicit || !(await isMeantAsPath(name)));
}

async function isMeantAsPath(name: string): Promise<boolean> {
  const [owner] = name.split('/', 1);
  return (isGgufPath(name) && !name.includes(':')) || (await kindOf(owner))?.isDirectory() === true;
}

async function kindOf(path: string) {
  return stat(path).catch(() => null);
}
