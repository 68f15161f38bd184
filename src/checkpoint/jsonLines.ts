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

/** A file of JSON values, one a line, that is appended to. A full disk loses none of them. */
export class JsonLines {
  readonly #file: number;
  /** What could not be written yet. */
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

  /** Lines that a full disk refused are kept, and written with the next one. */
  #writePending(): void {
    try {
      while (this.#pending.length > 0) {
        this.#pending = this.#pending.subarray(this.write(this.#file, this.#pending));
      }
    } catch {
      // Told of by the next save, which fails as well.
    }
  }

  /** Makes the lines survive a power cut, as far as the disk takes them. */
  flush(): void {
    this.#writePending();
    try {
      fsyncSync(this.#file);
    } catch {
      // As above.
    }
  }

  close(): void {
    this.#writePending();
    closeSync(this.#file);
  }
}

/**
 * Cuts such a file off before the first line that `keep` refuses, or that is not whole; it may be missing.
 * `keep` gets the lines in order.
 */
export async function keepLines(path: string, keep: (value: unknown) => boolean): Promise<void> {
  if (!existsSync(path)) return;
  const { size } = statSync(path);
  let bytes = 0;
  for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const end = bytes + Buffer.byteLength(text) + 1;
    // Beyond the end: the line break is missing.
    const value = end > size ? undefined : parse(text);
    if (value === undefined || !keep(value)) break;
    bytes = end;
  }
  truncateSync(path, bytes);
}

/** undefined for what is not a whole line. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
