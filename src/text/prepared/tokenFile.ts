import { closeSync, openSync, readSync } from 'node:fs';
import type { Batch } from '../../base/batch';
import { BYTES_PER_TOKEN, invalidData, type TokenType } from './header';

/** Reads windows of token ids at any position of a file, with a buffer of one window. */
export class TokenFile {
  readonly #file: number;
  #buffer = Buffer.alloc(0);

  /** @throws the system's Error when the file can't be opened. */
  constructor(
    readonly path: string,
    readonly tokens: number,
    readonly dtype: TokenType,
    readonly vocabSize: number,
  ) {
    this.#file = openSync(path, 'r');
  }

  /**
   * Copies the window from token `start` on, and its targets one token later, into a row of a batch.
   * @throws SgemoeError SGEMOE_DATA_INVALID if the file has become shorter or holds an id that isn't a token.
   */
  copyWindow(start: number, { ids, targets, seqLen }: Batch, row: number): void {
    const buffer = this.#read(start, seqLen + 1);
    const at = row * seqLen;
    for (let i = 0; i <= seqLen; i++) {
      const id = this.dtype === 'uint16' ? buffer.readUInt16LE(2 * i) : buffer.readUInt32LE(4 * i);
      if (id >= this.vocabSize) {
        throw invalidData(this.path, `token ${start + i} is ${id}, must be below ${this.vocabSize}`);
      }
      if (i < seqLen) ids[at + i] = id;
      if (i > 0) targets[at + i - 1] = id;
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  #read(start: number, tokens: number): Buffer {
    const size = BYTES_PER_TOKEN[this.dtype];
    const bytes = tokens * size;
    if (this.#buffer.length < bytes) this.#buffer = Buffer.alloc(bytes);
    for (let done = 0; done < bytes; ) {
      const read = readSync(this.#file, this.#buffer, done, bytes - done, start * size + done);
      if (read === 0) throw invalidData(this.path, `it ends before token ${start + tokens}`);
      done += read;
    }
    return this.#buffer;
  }
}
