import { randomUUID } from 'node:crypto';
import { linkSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { open, readFile, rmdir, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SgemoeError } from '../base/errors';
import { makeFolder } from './makeFolder';
import { checkpointWriteError, syncFolder } from './replaceFiles';

/*
 * A lock file lets one process at a time write to a place, and names its owner. It is created with 'wx', so only one of
 * several processes gets it. A killed process leaves its lock behind: the next process on the same host sees that the owner
 * is gone and takes the lock over. Processes of another host can't be seen, so a lock of theirs is always refused.
 *
 * A process renames a lock to take it over, so only one of two processes succeeds. If the renamed lock isn't the one that
 * was read, a third process took over in the microseconds between; the lock is then given back.
 */

/** The name of the lock file in a locked folder. */
export const LOCK_FILE = '.sgemoe-lock';

export interface LockOwner {
  pid: number;
  host: string;
  /** When the lock was made, ISO 8601. */
  since: string;
  /** What the owner does: 'a training run'. */
  purpose: string;
  /** Distinguishes the process from a later one with the same pid (`processStart`); null where that isn't possible. */
  processStart: string | null;
  /** Unique to this lock. */
  id: string;
}

const TRIES = 50;
const RETRY_MS = 20;
/** An empty or half-written lock is read this many times before its owner counts as killed while writing it. */
const UNREADABLE_TRIES = 5;

export class FolderLock {
  private constructor(
    readonly file: string,
    private readonly owner: LockOwner,
    /** The topmost folder that was made for the lock. */
    private readonly made: string | undefined,
    /** Says whose lock was taken over; null if there was none. */
    readonly note: string | null,
  ) {}

  /**
   * Creates the lock file, and its folder when needed.
   * @throws SgemoeError SGEMOE_FOLDER_LOCKED when another process has it; the system's Error when it can't be written.
   */
  static async acquire(file: string, purpose: string): Promise<FolderLock> {
    const owner = await newOwner(purpose);
    const made = await makeFolder(dirname(file));
    if (made !== undefined) await syncFolder(dirname(made));
    let note: string | null = null;
    for (let tries = 0, unreadable = 0; tries < TRIES; tries++) {
      if (await create(file, owner)) return new FolderLock(file, owner, made, note);
      const text = await readIfThere(file);
      if (text === null) continue;
      const found = parseOwner(text);
      if (found === null && ++unreadable < UNREADABLE_TRIES) {
        await sleep(RETRY_MS);
        continue;
      }
      if (found !== null) await refuseLiving(file, found);
      if (remove(file, text)) note = takenOver(file, found);
    }
    throw new SgemoeError('SGEMOE_FOLDER_LOCKED', `${file} is taken by other processes again and again.`);
  }

  /** Removes the lock, and the folder that was made for it if it is still empty. Never throws. */
  async release(): Promise<void> {
    const text = await readIfThere(this.file).catch(() => null);
    if (text === null || parseOwner(text)?.id !== this.owner.id) return;
    await unlink(this.file).catch(() => undefined);
    if (this.made !== undefined) await rmdir(dirname(this.file)).catch(() => undefined);
  }
}

/** Locks a folder. @throws SgemoeError SGEMOE_FOLDER_LOCKED, SGEMOE_CHECKPOINT_WRITE. */
export async function lockFolder(folder: string, purpose: string): Promise<FolderLock> {
  try {
    return await FolderLock.acquire(join(folder, LOCK_FILE), purpose);
  } catch (cause) {
    if (cause instanceof SgemoeError) throw cause;
    throw checkpointWriteError(`${folder} could not be locked, what was there is untouched`, cause);
  }
}

/** Locks a folder while a job writes to it. @throws what `lockFolder` and the job throw. */
export async function whileLocked<T>(
  folder: string,
  { purpose, onNote }: { purpose: string; onNote?: ((note: string) => void) | undefined },
  job: () => Promise<T>,
): Promise<T> {
  const lock = await lockFolder(folder, purpose);
  try {
    if (lock.note !== null) onNote?.(lock.note);
    return await job();
  } finally {
    await lock.release();
  }
}

async function newOwner(purpose: string): Promise<LockOwner> {
  const { pid } = process;
  const since = new Date().toISOString();
  return { pid, host: hostname(), since, purpose, processStart: await processStart(pid), id: randomUUID() };
}

/** Creates the lock file; false if it exists already. */
async function create(file: string, owner: LockOwner): Promise<boolean> {
  const handle = await open(file, 'wx').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return null;
    throw error;
  });
  if (handle === null) return false;
  try {
    await handle.writeFile(`${JSON.stringify(owner)}\n`);
  } catch (error) {
    await unlink(file).catch(() => undefined);
    throw error;
  } finally {
    await handle.close();
  }
  return true;
}

async function readIfThere(file: string): Promise<string | null> {
  return readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
}

/** The owner in a lock file's text; null for a text that isn't written whole. */
function parseOwner(text: string): LockOwner | null {
  try {
    const owner = JSON.parse(text) as LockOwner | null;
    return Number.isSafeInteger(owner?.pid) && typeof owner?.host === 'string' ? owner : null;
  } catch {
    return null;
  }
}

/** @throws SgemoeError SGEMOE_FOLDER_LOCKED unless the owner ran on this host and has ended. */
async function refuseLiving(file: string, owner: LockOwner): Promise<void> {
  const folder = dirname(file);
  if (owner.host !== hostname()) {
    throw new SgemoeError(
      'SGEMOE_FOLDER_LOCKED',
      `${folder} is in use by ${described(owner)}, which can't be seen from this host. If it has ended, remove ${file}.`,
    );
  }
  if (!(await isAlive(owner))) return;
  throw new SgemoeError(
    'SGEMOE_FOLDER_LOCKED',
    `${folder} is in use by ${described(owner)}. Wait for its end, or choose another folder.`,
  );
}

function described({ pid, host, since, purpose }: LockOwner): string {
  return `process ${pid} on ${host} (${purpose}, since ${since})`;
}

function takenOver(file: string, owner: LockOwner | null): string {
  const who = owner === null ? 'a process' : described(owner);
  return `${dirname(file)} was locked by ${who}, which has ended without unlocking it: the lock is taken over.`;
}

async function isAlive({ pid, processStart: started }: LockOwner): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process is another user's.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const now = await processStart(pid);
  return started === null || now === null || now === started;
}

/**
 * Distinguishes a process from a later one with the same pid: on Linux the boot id and the clock tick of its start. A
 * process that has ended but isn't reaped yet has none. Elsewhere it is null, and a pid that exists counts as the owner's.
 */
async function processStart(pid: number): Promise<string | null> {
  if (process.platform !== 'linux') return null;
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The line is pid (name) state ppid ...; the name may hold anything, so fields are counted after it. starttime is the 22nd.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return 'ended';
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
    return `${boot.trim()} ${fields[19]}`;
  } catch {
    return null;
  }
}

/**
 * Removes the lock that was read; false if another one has replaced it. The calls are synchronous, so that little time
 * passes between reading and renaming.
 */
function remove(file: string, text: string): boolean {
  const doomed = `${file}-${randomUUID()}`;
  let isSame = false;
  try {
    if (readFileSync(file, 'utf8') !== text) return false;
    renameSync(file, doomed);
    isSame = readFileSync(doomed, 'utf8') === text;
    if (!isSame) linkSync(doomed, file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ENOENT: another process removed the lock. EEXIST: a third process has it now.
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error;
  } finally {
    rmSync(doomed, { force: true });
  }
  return isSame;
}
