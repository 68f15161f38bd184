import { copyFile, link, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from './makeFolder';
import { checkpointWriteError, locateFile, syncFolder } from './replaceFiles';

/** The subfolder that keeps former checkpoints. */
export const HISTORY_FOLDER = 'checkpoints';

const ENTRY = /^step-\d+$/;
const UNFINISHED = /^\.(saving|removing)-/;

/**
 * Adds the checkpoint in a folder to its history, as checkpoints/step-<step>, and keeps only the last `keep` entries.
 * Entries are hard links where the file system has them, which is safe since a later save replaces files and never
 * writes into them. An entry appears and disappears as a whole.
 * @throws SgemoeError SGEMOE_CHECKPOINT_WRITE; the checkpoint itself is not touched.
 */
export async function keepInHistory(
  dir: string,
  { step, keep, files }: { step: number; keep: number; files: readonly string[] },
): Promise<void> {
  const history = join(dir, HISTORY_FOLDER);
  try {
    await makeFolder(history);
    for (const name of await readdir(history)) {
      if (UNFINISHED.test(name)) await rm(join(history, name), { recursive: true, force: true });
    }
    await addEntry(dir, join(history, entryName(step)), join(history, `.saving-${step}`), files);
    const entries = (await readdir(history)).filter((name) => ENTRY.test(name)).sort();
    for (const name of entries.slice(0, Math.max(0, entries.length - keep))) {
      const doomed = join(history, `.removing-${name}`);
      await rename(join(history, name), doomed);
      await rm(doomed, { recursive: true, force: true });
    }
    await syncFolder(history);
  } catch (cause) {
    throw checkpointWriteError(
      `${dir} is saved, but ${HISTORY_FOLDER} in it could not be brought up to date`,
      cause,
    );
  }
}

async function addEntry(
  dir: string,
  entry: string,
  staging: string,
  files: readonly string[],
): Promise<void> {
  const known = await stat(entry).catch(() => null);
  // An entry of this step from before a resume is equal to the new one, or belongs to a course that was given up.
  if (known !== null) await rm(entry, { recursive: true, force: true });
  await mkdir(staging);
  for (const name of files) {
    const from = await locateFile(dir, name);
    if ((await stat(from).catch(() => null)) === null) continue;
    const to = join(staging, name);
    await link(from, to).catch(() => copyFile(from, to));
  }
  await syncFolder(staging);
  await rename(staging, entry);
}

/** Names sort in the order of their steps. */
function entryName(step: number): string {
  return `step-${String(step).padStart(10, '0')}`;
}
