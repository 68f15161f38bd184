import { randomUUID } from 'node:crypto';
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { readFile, rmdir, unlink } from 'node:fs/promises';
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
 * A lock is taken over under a second lock, `<file>-takeover`. While a process holds that one, no other process removes a
 * lock of an ended owner; so a lock that still has the text that was read can be removed. A takeover lock that a killed
 * process left behind is taken over in the same way.
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

const TAKEOVER = '-takeover';

const TRIES = 150;
const RETRY_MS = 20;
/**
 * An empty or half-written lock is read this many times before its owner counts as killed while writing it. A living owner
 * writes it at once, but may have to wait for a processor.
 */
const UNREADABLE_TRIES = 100;

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
    let refusal: SgemoeError | null = null;
    for (let tries = 0, unreadable = 0; tries < TRIES; tries++) {
      if (create(file, owner)) return new FolderLock(file, owner, made, note);
      const text = await readIfThere(file);
      if (text === null) continue;
      const found = parseOwner(text);
      if (found === null && ++unreadable < UNREADABLE_TRIES) {
        await sleep(RETRY_MS);
        continue;
      }
      if (found !== null) await refuseLiving(file, found);
      try {
        if (await removeEnded(file, text)) note = takenOver(file, found);
      } catch (error) {
        if (!(error instanceof SgemoeError)) throw error;
        refusal = error;
        await sleep(RETRY_MS);
      }
    }
    throw (
      refusal ??
      new SgemoeError('SGEMOE_FOLDER_LOCKED', `${file} is taken by other processes again and again.`)
    );
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

/** Creates the lock file; false if it exists already. The calls are synchronous, so that little time passes between them. */
function create(file: string, owner: LockOwner): boolean {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    writeFileSync(descriptor, `${JSON.stringify(owner)}\n`);
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  } finally {
    closeSync(descriptor);
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
 * Removes the lock of an ended process, if it still has the text that was read; false if it has not.
 * @throws SgemoeError SGEMOE_FOLDER_LOCKED while another process takes over.
 */
async function removeEnded(file: string, text: string): Promise<boolean> {
  const takeover = await FolderLock.acquire(`${file}${TAKEOVER}`, 'taking over a lock');
  try {
    if ((await readIfThere(file)) !== text) return false;
    await unlink(file);
    return true;
  } finally {
    await takeover.release();
  }
}
