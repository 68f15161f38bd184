import { type ErrorCode, SgemoeError } from '../base/errors';
import { MAX_CONFIG_BYTES, readSmallJson } from './regularFile';
import { locateFile, type NewFile } from './replaceFiles';
import { writeChunks } from './safetensors';

/** A file to write, with `value` as JSON. */
export function jsonFile(name: string, value: object): NewFile {
  return textFile(name, `${JSON.stringify(value, null, 2)}\n`);
}

export function textFile(name: string, text: string): NewFile {
  const bytes = new TextEncoder().encode(text);
  return { name, bytes, write: (handle) => writeChunks(handle, [bytes]) };
}

/** The object in a JSON file of a folder that `replaceFiles` writes; null if there is no such file. */
export async function readJson(
  dir: string,
  name: string,
  code: ErrorCode,
  maxBytes = MAX_CONFIG_BYTES,
): Promise<Record<string, unknown> | null> {
  return readJsonFile(await locateFile(dir, name), code, maxBytes);
}

/**
 * The object in a JSON file, which must be a regular file of at most `maxBytes`; null if there is no such file.
 * @throws SgemoeError with this code.
 */
export async function readJsonFile(
  path: string,
  code: ErrorCode,
  maxBytes = MAX_CONFIG_BYTES,
): Promise<Record<string, unknown> | null> {
  let value: unknown;
  try {
    value = await readSmallJson(path, maxBytes);
  } catch (cause) {
    const failure = (cause as NodeJS.ErrnoException).code;
    if (failure === 'ENOENT' || failure === 'ENOTDIR') return null;
    throw new SgemoeError(code, `${path} is not readable JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new SgemoeError(code, `${path} must hold a JSON object.`);
}
