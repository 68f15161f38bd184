import { createHash, type Hash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SgemoeError } from '../../base/errors';
import { FolderLock } from '../../checkpoint/folderLock';
import { makeFolder } from '../../checkpoint/makeFolder';
import { syncFolder } from '../../checkpoint/replaceFiles';
import type { RepositoryCache } from './hubCache';
import type { HubSettings } from './hubOptions';
import type { RemoteFile, Repository } from './repository';
import { type Answer, RefusedRequest, retrying, TemporaryFailure } from './requests';

/** What the download of a file needs. */
export interface Download {
  readonly repository: Repository;
  readonly commit: string;
  readonly cache: RepositoryCache;
  readonly settings: HubSettings;
  /** Called with the bytes of the file that are here, often. */
  readonly onBytes: (bytes: number) => void;
}

const POLL_MS = 300;

/**
 * Downloads a file's content into the cache, if it isn't there; returns whether it did. A process that finds another one at it
 * waits, and downloads for itself when the other's file stops growing, as that of a process that died on another host.
 * @throws SgemoeError SGEMOE_HUB_DAMAGED, SGEMOE_HUB_UNREACHABLE or what `Repository.explain` makes of a refusal; the signal's
 * reason; the system's Error.
 */
export async function downloadBlob(file: RemoteFile, download: Download): Promise<boolean> {
  const { cache, settings, commit } = download;
  const blob = cache.blob(file);
  const shared = cache.partial(file);
  // Made here, so that no lock that is released removes its folder from under another one.
  for (const path of [blob, cache.lockFile(file)]) await makeFolder(dirname(path));
  // Where links can't be made, another process has moved the blob into the snapshot.
  const isHere = async () => (await cache.hasBlob(file)) || cache.isInSnapshot(file, commit);
  let [grownTo, grownAt, told] = [-1, performance.now(), false];
  for (;;) {
    if (await isHere()) return false;
    const lock = await tryLock(cache.lockFile(file));
    if (lock !== null) {
      try {
        if (await isHere()) return false;
        await fillAndMove(file, shared, download);
        return true;
      } finally {
        await lock.release();
      }
    }
    const bytes = (await stat(shared).catch(() => null))?.size ?? 0;
    if (bytes !== grownTo) [grownTo, grownAt] = [bytes, performance.now()];
    else if (performance.now() - grownAt > 2 * settings.stallTimeoutMs) break;
    if (!told) settings.onNote(`Another process downloads ${file.path}: waiting for it.`);
    told = true;
    download.onBytes(bytes);
    await sleep(POLL_MS, undefined, { signal: settings.signal }).catch(() =>
      settings.signal?.throwIfAborted(),
    );
  }
  const own = `${blob}.${randomUUID().slice(0, 8)}.incomplete`;
  await fillAndMove(file, own, download).finally(() => rm(own, { force: true }));
  return true;
}

/** Null if another process, or another call in this one, has the lock. */
function tryLock(file: string): Promise<FolderLock | null> {
  return FolderLock.acquire(file, 'a download').catch((error: unknown) => {
    if (error instanceof SgemoeError && error.code === 'SGEMOE_FOLDER_LOCKED') return null;
    throw error;
  });
}

/** Fills the partial file, checks it and moves it to its place. Wrong bytes are downloaded once again from the start. */
async function fillAndMove(file: RemoteFile, path: string, download: Download): Promise<void> {
  for (let isSecond = false; ; isSecond = true) {
    const hash = await fill(file, path, download);
    if (hash === file.hash) break;
    await rm(path, { force: true });
    if (isSecond) throw damaged(file, `its checksum is ${hash}, not ${file.hash}`);
  }
  const blob = download.cache.blob(file);
  await rename(path, blob);
  await syncFolder(dirname(blob));
}

/** Downloads what the partial file lacks, and returns the checksum of the whole. */
async function fill(file: RemoteFile, path: string, download: Download): Promise<string> {
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o666);
  try {
    const partial = new PartialFile(handle, file);
    await partial.readExisting(download.settings.signal);
    await retrying(download.settings, async (progressed) => {
      if (partial.bytes < file.size) await fetchRest(file, partial, download, progressed);
    });
    await handle.sync();
    return partial.checksum();
  } finally {
    await handle.close();
  }
}

async function fetchRest(
  file: RemoteFile,
  partial: PartialFile,
  { repository, commit, onBytes }: Download,
  progressed: () => void,
): Promise<void> {
  const answer = await askFrom(partial, repository, repository.contentPath(file.path, commit));
  for await (const chunk of answer.chunks()) {
    if (partial.bytes + chunk.length > file.size) {
      throw damaged(file, `it is longer than the ${file.size} bytes that the hub tells`);
    }
    await partial.append(chunk);
    progressed();
    onBytes(partial.bytes);
  }
  if (partial.bytes < file.size) throw new TemporaryFailure(`the connection ended within ${file.path}`);
}

/** Asks for the bytes that a partial file lacks. One that can't be continued begins anew. */
async function askFrom(partial: PartialFile, repository: Repository, path: string): Promise<Answer> {
  const { bytes } = partial;
  try {
    const range: Record<string, string> = bytes === 0 ? {} : { range: `bytes=${bytes}-` };
    const answer = await repository.requests.send('GET', path, range);
    if (bytes === 0) return answer;
    const from = /^bytes (\d+)-/.exec(answer.headers.get('content-range') ?? '')?.[1];
    if (answer.status === 206 && Number(from) === bytes) return answer;
    await partial.clear();
    if (answer.status !== 206) return answer;
    await answer.discard();
    throw new TemporaryFailure('it answers with other bytes than those asked for');
  } catch (error) {
    if (!(error instanceof RefusedRequest)) throw error;
    if (error.status !== 416) throw await repository.explain(error);
    await partial.clear();
    throw new TemporaryFailure(error.message);
  }
}

/** A file that grows at its end, and the checksum of what is in it. */
class PartialFile {
  bytes = 0;
  #hash: Hash;

  constructor(
    private readonly handle: FileHandle,
    private readonly file: RemoteFile,
  ) {
    this.#hash = hashOf(file);
  }

  /** Takes what an earlier download left. */
  async readExisting(signal: AbortSignal | undefined): Promise<void> {
    const { size } = await this.handle.stat();
    if (size > this.file.size) return this.clear();
    if (size === 0) return;
    for await (const chunk of this.handle.createReadStream({ start: 0, autoClose: false, signal })) {
      this.#hash.update(chunk);
      this.bytes += chunk.length;
    }
  }

  async append(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const { bytesWritten } = await this.handle.write(chunk, at, chunk.length - at, this.bytes + at);
      at += bytesWritten;
    }
    this.#hash.update(chunk);
    this.bytes += chunk.length;
  }

  async clear(): Promise<void> {
    await this.handle.truncate(0);
    this.bytes = 0;
    this.#hash = hashOf(this.file);
  }

  /** In hexadecimal. It can be asked for once. */
  checksum(): string {
    return this.#hash.digest('hex');
  }
}

/** SHA-256 of the content; or git's checksum of it: SHA-1 of "blob", its length, a zero byte and the content. */
function hashOf({ hash, size }: RemoteFile): Hash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

function damaged({ path }: RemoteFile, what: string): SgemoeError {
  return new SgemoeError('SGEMOE_HUB_DAMAGED', `${path} arrives damaged: ${what}.`);
}
