import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';

/*
 * The largest files that are read whole, in bytes: far above what tools write, far below what fills the memory.
 */
/** config.json, generation_config.json, and JSON files of sgemoe's own. */
export const MAX_CONFIG_BYTES = 2 ** 24;
/** tokenizer.json: those of 256,000 tokens have about 35 MB. */
export const MAX_TOKENIZER_BYTES = 2 ** 28;
/** tokenizer_config.json, which may repeat added tokens. */
export const MAX_TOKENIZER_CONFIG_BYTES = 2 ** 26;
/** chat_template.jinja */
export const MAX_TEMPLATE_BYTES = 2 ** 20;
/** model.safetensors.index.json: about 100 bytes a tensor. */
export const MAX_INDEX_BYTES = 2 ** 27;

/** Not on Windows. A named pipe opens at once, without a writer. */
const NON_BLOCKING = constants.O_NONBLOCK ?? 0;

/**
 * Opens a file to read it. Named pipes, devices and folders are refused: reading them may never end. Links to files are fine.
 * @throws Error of the system, or one that says what is no regular file.
 */
export async function openRegularFile(path: string): Promise<FileHandle> {
  // Looked at before it is opened, since opening a device may do something; and afterwards, since it may have been replaced.
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

/** The text of a regular file, UTF-8. @throws Error as `openRegularFile`, or for one of more than `maxBytes`. */
export async function readSmallFile(path: string, maxBytes: number): Promise<string> {
  const handle = await openRegularFile(path);
  try {
    const { size } = await handle.stat();
    if (size > maxBytes) throw new Error(`it has ${size} bytes, at most ${maxBytes} are read`);
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}

/** As `JSON.parse(await readSmallFile(..))`; a byte order mark is passed over, a git-lfs pointer is told. */
export async function readSmallJson(path: string, maxBytes: number): Promise<unknown> {
  return parseJson(await readSmallFile(path, maxBytes));
}

/** JSON of a file's text, which may begin with a byte order mark. @throws SyntaxError. */
export function parseJson(text: string): unknown {
  const pointer = gitLfsPointer(text);
  if (pointer !== null) throw new SyntaxError(pointer);
  return JSON.parse(text.startsWith('\uFEFF') ? text.slice(1) : text);
}

/** No pointer is longer. */
export const MAX_POINTER_BYTES = 1024;

/** What is wrong with a file that git-lfs left in the place of another; null for any other text. */
export function gitLfsPointer(text: string): string | null {
  if (!text.startsWith('version https://git-lfs')) return null;
  const [, size] = /^size (\d+)$/m.exec(text) ?? [];
  const what = size === undefined ? '' : ` of ${size} bytes`;
  return `it is a git-lfs pointer, not the file${what} itself; run \`git lfs pull\` in its folder, or download the file`;
}
