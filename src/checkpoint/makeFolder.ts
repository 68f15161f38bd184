import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a folder and those above it that are missing; returns the topmost one made, undefined when all were there.
 * As `mkdir` with `recursive`, which never returns where a folder exists and still nothing can be made in it (/proc).
 */
export async function makeFolder(path: string): Promise<string | undefined> {
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const parent = dirname(path);
    // A drive of Windows answers EPERM.
    if ((code === 'EEXIST' || parent === path) && (await isFolder(path))) return undefined;
    if (code !== 'ENOENT' || parent === path) throw error;
    const topmost = await makeFolder(parent);
    await mkdir(path);
    return topmost ?? path;
  }
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isDirectory() ?? false;
}
