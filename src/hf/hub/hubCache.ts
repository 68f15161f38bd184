import { randomUUID } from 'node:crypto';
import {
  copyFile,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { makeFolder } from '../../checkpoint/makeFolder';
import { isCommit, type ListedFile, type RemoteFile } from './repository';

/*
 * The cache folder is laid out as Python's huggingface_hub lays it out, so that both share what they download:
 *
 *   models--org--name/refs/main                      the commit of a branch or tag
 *   models--org--name/blobs/<checksum>               the content of a file
 *   models--org--name/snapshots/<commit>/<path>      a relative link to it; the content itself where links can't be made
 *   .locks/models--org--name/
 */

export class RepositoryCache {
  readonly #folder: string;
  readonly #locks: string;

  constructor(cacheDir: string, repository: string) {
    const name = `models--${repository.replace('/', '--')}`;
    this.#folder = join(cacheDir, name);
    this.#locks = join(cacheDir, '.locks', name);
  }

  /** The commit that a revision was when it was last looked up; null if it never was. */
  async commitOf(revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision;
    const text = await readFile(join(this.#folder, 'refs', revision), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : null;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if ((await this.commitOf(revision)) === commit) return;
    const path = join(this.#folder, 'refs', revision);
    await makeFolder(dirname(path));
    await replaceWith(path, (temporary) => writeFile(temporary, commit));
  }

  snapshot(commit: string): string {
    return join(this.#folder, 'snapshots', commit);
  }

  blob({ hash }: RemoteFile): string {
    return join(this.#folder, 'blobs', hash);
  }

  /**
   * The part of a blob that has arrived. It isn't Python's `<checksum>.incomplete`: that may be written just now, under a lock
   * that Node can't take.
   */
  partial({ hash }: RemoteFile): string {
    return join(this.#folder, 'blobs', `${hash}.sgemoe.incomplete`);
  }

  lockFile({ hash }: RemoteFile): string {
    return join(this.#locks, `${hash}.sgemoe.lock`);
  }

  /** The files of a snapshot, or none if there is no such snapshot. */
  async files(commit: string): Promise<ListedFile[]> {
    const folder = this.snapshot(commit);
    const names = await readdir(folder, { recursive: true }).catch(() => []);
    const sizes = await Promise.all(names.map((name) => sizeOf(join(folder, name))));
    return names.flatMap((name, i) =>
      sizes[i] === null ? [] : [{ path: name.replaceAll('\\', '/'), size: sizes[i], hash: null }],
    );
  }

  async isInSnapshot({ path, size }: RemoteFile, commit: string): Promise<boolean> {
    return (await sizeOf(join(this.snapshot(commit), path))) === size;
  }

  async hasBlob(file: RemoteFile): Promise<boolean> {
    return (await sizeOf(this.blob(file))) === file.size;
  }

  /** Puts a blob into a snapshot: as a link, or, where links can't be made, as the content, moved if nobody else has it. */
  async addToSnapshot(file: RemoteFile, commit: string, isNew: boolean): Promise<void> {
    const path = join(this.snapshot(commit), file.path);
    const blob = this.blob(file);
    const target = relative(dirname(path), blob);
    if ((await readlink(path).catch(() => null)) === target) return;
    await makeFolder(dirname(path));
    try {
      await replaceWith(path, (temporary) => symlink(target, temporary));
    } catch (error) {
      if (!NO_LINKS.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      if (isNew) await rename(blob, path);
      else await replaceWith(path, (temporary) => copyFile(blob, temporary));
    }
  }
}

/** How systems say that symbolic links can't be made: a user without the right on Windows, FAT, some network drives. */
const NO_LINKS = ['EPERM', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL'];

/** Bytes of a regular file, also behind a link; null if there is none. */
async function sizeOf(path: string): Promise<number | null> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() ? found.size : null;
}

/** Replaces a file in one step, whatever other processes do. */
async function replaceWith(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomUUID().slice(0, 8)}`;
  try {
    await make(temporary);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
