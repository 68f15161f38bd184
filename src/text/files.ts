import { open, readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import { SgemoeError } from '../base/errors';
import { refuseOtherEncodings, wideEncoding } from './encoding';

export interface TextFile {
  /** The path as given, or the given folder joined with the path inside it. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** A file with a NUL in its first bytes, this many, counts as binary, as in git. */
const BINARY_CHECK_BYTES = 8000;

/** Bytes read from a file at once when it is streamed. */
const CHUNK_BYTES = 2 ** 20;

/**
 * Finds files and folders, in the order given, each file once.
 *
 * A folder gives the files in it and below, sorted by their path inside it (by UTF-16 code units, '/' between
 * names), so that the order is the same on every machine. It leaves out names that start with a dot,
 * node_modules, symbolic links, files that look binary (a NUL in the first 8,000 bytes) and, if `extensions` is
 * given, other endings. A file that is named itself is always read.
 *
 * @throws SgemoeError SGEMOE_DATA_NOT_FOUND when a path does not exist or can't be read, or when a folder
 * holds no file to read.
 */
export async function listTextFiles(
  paths: readonly string[],
  extensions?: readonly string[],
): Promise<string[]> {
  const files = new Map<string, string>();
  for (const path of paths) {
    for (const file of await listPath(path, extensions)) {
      const identity = resolve(file);
      if (!files.has(identity)) files.set(identity, file);
    }
  }
  return [...files.values()];
}

/** Reads what `listTextFiles` finds. @throws SgemoeError as there, SGEMOE_DATA_ENCODING for text that isn't UTF-8. */
export async function readTextFiles(
  paths: readonly string[],
  extensions: readonly string[] | undefined,
): Promise<TextFile[]> {
  const files: TextFile[] = [];
  for (const path of await listTextFiles(paths, extensions)) {
    const bytes = await reading(path, () => readFile(path));
    refuseOtherEncodings(path, bytes, true);
    files.push({ path, bytes });
  }
  return files;
}

/** Yields the bytes of a file in chunks, each in its own memory. @throws SgemoeError as readTextFiles. */
export async function* readChunks(path: string): AsyncGenerator<Uint8Array, void> {
  const handle = await reading(path, () => open(path, 'r'));
  try {
    for (let first = true; ; first = false) {
      const chunk = new Uint8Array(CHUNK_BYTES);
      const { bytesRead } = await reading(path, () => handle.read(chunk, 0, CHUNK_BYTES, null));
      if (bytesRead === 0) return;
      const bytes = chunk.subarray(0, bytesRead);
      refuseOtherEncodings(path, bytes, first);
      yield bytes;
    }
  } finally {
    await handle.close();
  }
}

/** Total bytes of these files. @throws SgemoeError SGEMOE_DATA_NOT_FOUND */
export async function sizeOfFiles(paths: readonly string[]): Promise<number> {
  let sum = 0;
  for (const path of paths) sum += (await reading(path, () => stat(path))).size;
  return sum;
}

async function listPath(path: string, extensions: readonly string[] | undefined): Promise<string[]> {
  const kind = await reading(path, () => stat(path));
  if (kind.isFile()) return [path];
  if (!kind.isDirectory()) {
    throw new SgemoeError(
      'SGEMOE_DATA_NOT_FOUND',
      `Data path ${path} is neither a regular file nor a folder.`,
    );
  }
  const files: string[] = [];
  for (const candidate of await listFolder(path, extensions)) {
    if (!(await looksBinary(candidate))) files.push(candidate);
  }
  if (files.length > 0) return files;
  const endings = extensions ? ` ending in ${extensions.join(', ')}` : '';
  throw new SgemoeError(
    'SGEMOE_DATA_NOT_FOUND',
    `Data folder ${path} holds no text files${endings} ` +
      "(dot-files, node_modules, links and binary files don't count).",
  );
}

async function listFolder(root: string, extensions: readonly string[] | undefined): Promise<string[]> {
  const found: string[] = [];
  const folders = [root];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const here = folder;
    for (const entry of await reading(here, () => readdir(here, { withFileTypes: true }))) {
      if (entry.name.startsWith('.') || entry.name === 'node_modules') continue;
      const path = join(here, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile() && hasExtension(entry.name, extensions)) found.push(path);
    }
  }
  const keyed = found.map((path) => ({ path, key: relative(root, path).split(sep).join('/') }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : 1));
  return keyed.map(({ path }) => path);
}

function hasExtension(name: string, extensions: readonly string[] | undefined): boolean {
  return extensions === undefined || extensions.some((extension) => name.endsWith(extension));
}

async function looksBinary(path: string): Promise<boolean> {
  return reading(path, async () => {
    const handle = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await handle.read(
        new Uint8Array(BINARY_CHECK_BYTES),
        0,
        BINARY_CHECK_BYTES,
        0,
      );
      const bytes = buffer.subarray(0, bytesRead);
      // UTF-16 text isn't binary: it must not be left out silently.
      return bytes.includes(0) && wideEncoding(bytes) === null;
    } finally {
      await handle.close();
    }
  });
}

async function reading<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const text =
      code === 'ENOENT' || code === 'ENOTDIR'
        ? `Data path ${path} does not exist.`
        : `Data path ${path} can not be read: ${message}`;
    throw new SgemoeError('SGEMOE_DATA_NOT_FOUND', text, { cause });
  }
}
