import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a folder and its missing parents; returns the topmost one made, undefined if all existed. It replaces `mkdir` with
 * `recursive`, which never returns for a parent that exists but takes no new folder (/proc).
 */
export async function makeFolder(path: string): Promise<string | undefined> {
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const parent = dirname(path);
    // A Windows drive answers EPERM.
    if ((code === 'EEXIST' || parent === path) && (await isFolder(path))) return undefined;
    if (code !== 'ENOENT' || parent === path) throw error;
    const topmost = await makeFolder(parent);
    // Another process may make it now; it is there either way.
    await mkdir(path).catch(async (raced: NodeJS.ErrnoException) => {
      if (raced.code !== 'EEXIST' || !(await isFolder(path))) throw raced;
    });
    return topmost ?? path;
  }
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isDirectory() ?? false;
}
