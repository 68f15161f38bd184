import { stat } from 'node:fs/promises';
import { CONFIG_FILE } from '../../checkpoint/checkpoint';
import { isGgufPath } from '../../checkpoint/gguf/ggufFile';
import { locateFile } from '../../checkpoint/replaceFiles';
import { parseHubName } from '../../hf/hub/hubName';
import { UsageError } from '../terminal/usageError';

/*
 * Checks of the paths that a command line names. They only look whether something of the right kind is there; what is
 * wrong inside it is found, and told with exit code 1, by whoever reads it.
 */

/** @param names one of the files that the folder must have. @throws UsageError unless `path` is such a folder, or a GGUF file. */
export async function requireCheckpoint(
  path: string,
  names: readonly string[] = [CONFIG_FILE],
): Promise<void> {
  if (isGgufPath(path)) return requireFileOrFolder('Checkpoint', path);
  const kind = await stat(path).catch(() => null);
  if (!kind?.isDirectory()) {
    const hint = parseHubName(path) === null ? '' : ` (hf.co/${path} would be a model of the hub)`;
    throw new UsageError(`${path}: there is no such checkpoint folder${hint}`);
  }
  for (const name of names) if (await exists(await locateFile(path, name))) return;
  throw new UsageError(`${path}: there is no ${CONFIG_FILE} in this folder`);
}

/** @throws UsageError unless `path` is a regular file or a folder. */
export async function requireFileOrFolder(what: string, path: string): Promise<void> {
  const kind = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const reason = cause.code === 'ENOENT' ? 'does not exist.' : `can't be used: ${cause.message}`;
    throw new UsageError(`${what} ${path} ${reason}`, { cause });
  });
  if (kind.isFile() || kind.isDirectory()) return;
  throw new UsageError(`${what} ${path} is neither a regular file nor a folder.`);
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
