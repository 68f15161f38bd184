import { readFile } from 'node:fs/promises';
import { SgemoeError } from '../../base/errors';
import { refuseOtherEncodings } from '../encoding';

/** A row of a file of samples. */
export interface DataRow {
  /** Where it stands: 'chats.jsonl, line 3', or 'chats.json, element 3' of an array; both from 1. */
  readonly place: string;
  /** The parsed row; undefined where the line isn't JSON. */
  readonly value: unknown;
}

/**
 * Reads the rows of a file, whose lines are parsed as they are asked for: one JSON value a line (empty lines are left out), or one JSON array.
 * @throws SgemoeError SGEMOE_DATA_NOT_FOUND for a file that is missing or unreadable, SGEMOE_DATA_ENCODING for text that isn't
 * UTF-8, SGEMOE_DATA_ROWS for an array that isn't JSON.
 */
export async function readRows(path: string): Promise<Iterable<DataRow>> {
  const bytes = await readFile(path).catch((cause: Error) => {
    throw new SgemoeError('SGEMOE_DATA_NOT_FOUND', `Data file ${path} can not be read: ${cause.message}`, {
      cause,
    });
  });
  refuseOtherEncodings(path, bytes, true);
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  if (text.trimStart().startsWith('[')) return elementsOf(path, text);
  return linesOf(path, text);
}

function* linesOf(path: string, text: string): Generator<DataRow> {
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() !== '') yield { place: `${path}, line ${i + 1}`, value: parsed(line) };
  }
}

function elementsOf(path: string, text: string): DataRow[] {
  try {
    const values = JSON.parse(text) as unknown[];
    return values.map((value, i) => ({ place: `${path}, element ${i + 1}`, value }));
  } catch (cause) {
    const message = `Data file ${path} begins as an array and is no JSON: ${(cause as Error).message}`;
    throw new SgemoeError('SGEMOE_DATA_ROWS', message, { cause });
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
