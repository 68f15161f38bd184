import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';

/*
 * Size limits, in bytes, of files that are read whole: far above what tools write, far below what fills the memory.
 */
/** Limit of config.json, generation_config.json and sgemoe's own JSON files. */
export const MAX_CONFIG_BYTES = 2 ** 24;
/** Limit of tokenizer.json; one of 256,000 tokens has about 35 MB. */
export const MAX_TOKENIZER_BYTES = 2 ** 28;
/** Limit of tokenizer_config.json, which may repeat added tokens. */
export const MAX_TOKENIZER_CONFIG_BYTES = 2 ** 26;
/** Limit of chat_template.jinja. */
export const MAX_TEMPLATE_BYTES = 2 ** 20;
/** Limit of model.safetensors.index.json, which has about 100 bytes a tensor. */
export const MAX_INDEX_BYTES = 2 ** 27;

/** Lets a named pipe open at once, without a writer; Windows has no such flag. */
const NON_BLOCKING = constants.O_NONBLOCK ?? 0;

/**
 * Opens a file to read it. Named pipes, devices and folders are refused: reading them may never end. Links to files are fine.
 * @throws the system's Error, or an Error that the file isn't regular.
 */
export async function openRegularFile(path: string): Promise<FileHandle> {
  // Checked before opening, since opening a device may have effects, and after it, since the file may have been replaced.
  if (!(await stat(path)).isFile()) throw new Error('it is not a regular file');
  const handle = await open(path, constants.O_RDONLY | NON_BLOCKING);
  try {
    if ((await handle.stat()).isFile()) return handle;
    throw new Error('it is not a regular file');
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The UTF-8 text of a regular file. @throws Error as `openRegularFile`, or for a file of more than `maxBytes`. */
export async function readSmallFile(path: string, maxBytes: number): Promise<string> {
  return (await readSmallBytes(path, maxBytes)).toString('utf8');
}

/** The bytes of a regular file. @throws Error as `readSmallFile`. */
export async function readSmallBytes(path: string, maxBytes: number): Promise<Buffer> {
  const handle = await openRegularFile(path);
  try {
    const { size } = await handle.stat();
    if (size > maxBytes) throw new Error(`it has ${size} bytes, at most ${maxBytes} are read`);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** The JSON value of a regular file; a byte order mark is skipped. @throws Error as `readSmallFile`, for bad JSON or a git-lfs pointer. */
export async function readSmallJson(path: string, maxBytes: number): Promise<unknown> {
  return parseJson(await readSmallFile(path, maxBytes));
}

/** The JSON value of a file's text, which may begin with a byte order mark. @throws SyntaxError */
export function parseJson(text: string): unknown {
  const pointer = gitLfsPointer(text);
  if (pointer !== null) throw new SyntaxError(pointer);
  return JSON.parse(text.startsWith('\uFEFF') ? text.slice(1) : text);
}

/** The largest git-lfs pointer, in bytes. */
export const MAX_POINTER_BYTES = 1024;

/** The error sentence for a git-lfs pointer that stands in place of a file; null for any other text. */
export function gitLfsPointer(text: string): string | null {
  if (!text.startsWith('version https://git-lfs')) return null;
  const [, size] = /^size (\d+)$/m.exec(text) ?? [];
  const what = size === undefined ? '' : ` of ${size} bytes`;
  return `it is a git-lfs pointer, not the file${what} itself; run \`git lfs pull\` in its folder, or download the file`;
}
