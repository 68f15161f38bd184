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
 * A place that one process at a time writes to has a lock file, which says whose it is. It is created with 'wx', so one of
 * several processes gets it. A process that is killed leaves it behind: the next one on the same host sees that its owner
 * is gone and takes it over. What runs on another host can't be seen from here, so its lock is refused.
 *
 * To take over, a lock is renamed first: of two processes that do, one gets it. If it turns out to be another one than
 * was read, another process has taken over in the microseconds between: then it is given back.
 */

/** In the folder that is locked. */
export const LOCK_FILE = '.sgemoe-lock';

export interface LockOwner {
  pid: number;
  host: string;
  /** When the lock was made, ISO 8601. */
  since: string;
  /** What it does: 'a training run'. */
  purpose: string;
  /** Tells the process from a later one with the same pid, see `processStart`; null where that can't be told. */
  processStart: string | null;
  /** Of this one lock. */
  id: string;
}

const TRIES = 50;
const RETRY_MS = 20;
/** So often an empty or half-written lock is looked at again before its owner counts as killed while writing it. */
const UNREADABLE_TRIES = 5;

export class FolderLock {
  private constructor(
    readonly file: string,
    private readonly owner: LockOwner,
    /** The topmost folder made for it. */
    private readonly made: string | undefined,
    /** Says whose lock was taken over; null when there was none. */
    readonly note: string | null,
  ) {}

  /**
   * Creates the lock file, and the folder it is in when needed.
   * @throws SgemoeError SGEMOE_FOLDER_LOCKED when another process has it; Error of the system when it can't be written.
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

/** Runs a job that writes to a folder, which is locked meanwhile. @throws as `lockFolder` and the job. */
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

/** Whether the file is made: not when there is one. */
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

/** null for what no process has written whole. */
function parseOwner(text: string): LockOwner | null {
  try {
    const owner = JSON.parse(text) as LockOwner | null;
    return Number.isSafeInteger(owner?.pid) && typeof owner?.host === 'string' ? owner : null;
  } catch {
    return null;
  }
}

/** @throws SgemoeError SGEMOE_FOLDER_LOCKED unless the owner ran on this host and is gone. */
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
    // EPERM: it is another user's.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const now = await processStart(pid);
  return started === null || now === null || now === started;
}

/**
 * On Linux what tells a process from a later one with its pid: the boot and the clock tick it was started in. A process
 * that has ended and is not waited for yet has none. Elsewhere null: a pid that exists counts as the owner's.
 */
async function processStart(pid: number): Promise<string | null> {
  if (process.platform !== 'linux') return null;
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // pid (name) state ppid ...: the name may hold anything, so fields are counted from its end; starttime is the 22nd.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return 'ended';
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
    return `${boot.trim()} ${fields[19]}`;
  } catch {
    return null;
  }
}

/**
 * Removes a lock that was read; false when it is another one by now. Without a turn of the event loop, so that little time
 * passes between the look and the renaming.
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
    // Gone: another process removed it. There again: so did a third one, which has the lock.
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error;
  } finally {
    rmSync(doomed, { force: true });
  }
  return isSame;
}
