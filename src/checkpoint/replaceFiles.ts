import { access, type FileHandle, mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { SgemoeError } from '../base/errors';
import { makeFolder } from './makeFolder';

/*
 * Replaces several files of a folder at once: a crash at any moment leaves either all old or all new files. Other
 * files of the folder are never touched.
 *
 *   1. The new files are written to folder/.saving-<n> and flushed to the disk.
 *   2. .saving-<n> is renamed to .saved. This is the commit.
 *   3. Each file is renamed from .saved to the folder, and .saved is removed.
 *
 * A reader takes a file from .saved if it is there, else from the folder: before step 2 it gets every old file,
 * afterwards every new one, wherever step 3 stopped. The next replacement finishes an interrupted step 3 first,
 * and removes what an interrupted step 1 left. One process should write to a folder at a time: of two writers
 * one may fail, but they leave no mixture.
 */

const COMMITTED = '.saved';
const STAGING_PREFIX = '.saving-';
const REMOVING_SUFFIX = '.removing';

export interface NewFile {
  readonly name: string;
  /** The whole content, if it is in memory. */
  readonly bytes?: Uint8Array | undefined;
  /** Writes the content into the new file, whose path this is for now. */
  write(handle: FileHandle, path: string): Promise<void>;
}

/** Where the committed version of a file is now. The file itself may not exist. */
export async function locateFile(folder: string, name: string): Promise<string> {
  const moved = join(folder, COMMITTED, name);
  return access(moved).then(
    () => moved,
    () => join(folder, name),
  );
}

const running = new Map<string, Promise<void>>();

/**
 * Replaces files as described above. Calls for one folder wait for each other. The folder is made when needed.
 * @throws SgemoeError SGEMOE_CHECKPOINT_WRITE; the message says whether the old or the new files are in
 * force.
 */
export async function replaceFiles(folder: string, files: readonly NewFile[]): Promise<void> {
  const key = resolve(folder);
  const previous = running.get(key) ?? Promise.resolve();
  const current = previous.catch(() => undefined).then(() => replaceNow(folder, files));
  running.set(key, current);
  try {
    await current;
  } finally {
    if (running.get(key) === current) running.delete(key);
  }
}

/** SGEMOE_CHECKPOINT_WRITE with `what` failed and the system's reason in words. */
export function checkpointWriteError(what: string, cause: unknown): SgemoeError {
  return new SgemoeError('SGEMOE_CHECKPOINT_WRITE', `${what}: ${systemReason(cause)}.`, { cause });
}

/** What the system says is wrong, in words, without a full stop. */
export function systemReason(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOSPC: 'no space left on the device',
    EDQUOT: 'the disk quota is used up',
    EFBIG: 'a file would be longer than is permitted',
    EACCES: 'permission denied',
    EPERM: 'permission denied',
    EROFS: 'the file system is read-only',
    ENOTDIR: 'a part of the path is not a folder',
    EEXIST: 'a file of that name is in the way',
  };
  return code !== undefined && Object.hasOwn(reasons, code) ? `${reasons[code]} (${code})` : message;
}

async function replaceNow(folder: string, files: readonly NewFile[]): Promise<void> {
  let staging: string | undefined;
  let firstCreated: string | undefined;
  let committed = false;
  try {
    firstCreated = await makeFolder(folder);
    await moveCommitted(folder);
    await removeLeftovers(folder);
    staging = await stageFiles(folder, files);
    await rename(staging, join(folder, COMMITTED));
    committed = true;
    await syncFolder(folder);
    if (firstCreated !== undefined) await syncFolder(dirname(firstCreated));
    await moveCommitted(folder);
  } catch (cause) {
    if (committed) {
      const state = `${folder} is saved and will load, but not all its files could be moved`;
      throw checkpointWriteError(`${state} out of ${COMMITTED} (the next save does it)`, cause);
    }
    await removeLeftovers(folder).catch(() => undefined);
    // rmdir takes empty folders only, so this removes nothing but the folder made above.
    if (firstCreated !== undefined) await rmdir(folder).catch(() => undefined);
    throw checkpointWriteError(`${folder} could not be written, what was there is untouched`, cause);
  }
}

async function stageFiles(folder: string, files: readonly NewFile[]): Promise<string> {
  // A name that no other host has, where a rank might take another disk's folder for this one.
  const staging = join(folder, `${STAGING_PREFIX}${crypto.randomUUID()}`);
  await mkdir(staging);
  for (const { name, write } of files) {
    const path = join(staging, name);
    const handle = await open(path, 'wx');
    try {
      await write(handle, path);
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  await syncFolder(staging);
  return staging;
}

/** Step 3. Another process may have moved a file already, which is no error. */
async function moveCommitted(folder: string): Promise<void> {
  const committed = join(folder, COMMITTED);
  const names = await readdir(committed).catch(ignore<string[]>('ENOENT'));
  if (names === undefined) return;
  for (const name of names) {
    await rename(join(committed, name), join(folder, name)).catch(ignore('ENOENT'));
  }
  await syncFolder(folder);
  await rmdir(committed).catch(ignore('ENOENT'));
}

/**
 * Removes what interrupted saves left. Each folder is renamed first, so that an owner that is still alive fails
 * its whole commit instead of committing a half-removed folder.
 */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(STAGING_PREFIX)) continue;
    let doomed = join(folder, name);
    if (!name.endsWith(REMOVING_SUFFIX)) {
      await rename(doomed, doomed + REMOVING_SUFFIX);
      doomed += REMOVING_SUFFIX;
    }
    await rm(doomed, { recursive: true, force: true });
  }
}

/**
 * Makes renames in a folder survive a power cut. It does nothing on Windows, which can't open folders, and on
 * file systems that can't sync them.
 */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync().catch(ignore('EINVAL'));
  } finally {
    await handle.close();
  }
}

function ignore<T = void>(code: string): (error: NodeJS.ErrnoException) => T | undefined {
  return (error) => {
    if (error.code !== code) throw error;
    return undefined;
  };
}
