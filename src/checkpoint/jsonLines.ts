import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  openSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { createInterface } from 'node:readline';

/** Appends JSON values to a file, one a line. A full disk loses no value. */
export class JsonLines {
  readonly #file: number;
  /** Bytes that could not be written yet. */
  #pending: Uint8Array = new Uint8Array(0);

  /** @throws Error of the system when the file can't be opened. */
  constructor(
    path: string,
    private readonly write: (file: number, bytes: Uint8Array) => number = writeSync,
  ) {
    this.#file = openSync(path, 'a');
  }

  append(value: object): void {
    this.#pending = Buffer.concat([this.#pending, Buffer.from(`${JSON.stringify(value)}\n`)]);
    this.#writePending();
  }

  /** Writes all pending lines. Lines that a full disk refuses stay pending until the next call. */
  #writePending(): void {
    try {
      while (this.#pending.length > 0) {
        this.#pending = this.#pending.subarray(this.write(this.#file, this.#pending));
      }
    } catch {
      // The next save fails as well and reports it.
    }
  }

  /** Makes the written lines survive a power cut. */
  flush(): void {
    this.#writePending();
    try {
      fsyncSync(this.#file);
    } catch {
      // The next save fails as well and reports it.
    }
  }

  close(): void {
    this.#writePending();
    closeSync(this.#file);
  }
}

/**
 * Truncates such a file before the first line that `keep` refuses or that isn't whole. `keep` gets the lines in order.
 * The file may be missing.
 */
export async function keepLines(path: string, keep: (value: unknown) => boolean): Promise<void> {
  if (!existsSync(path)) return;
  const { size } = statSync(path);
  let bytes = 0;
  for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const end = bytes + Buffer.byteLength(text) + 1;
    // A line that would end beyond the file lacks its line break.
    const value = end > size ? undefined : parse(text);
    if (value === undefined || !keep(value)) break;
    bytes = end;
  }
  truncateSync(path, bytes);
}

/** The value of a line; undefined if the line isn't whole. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
