import { TextDecoder } from 'node:util';
import { corrupt } from '../safetensorsHeader';

/** Thrown where the bytes at hand end before the file does. */
const MORE_BYTES = new Error('more bytes are needed');

/** Reads little-endian values from the first bytes of a file, none beyond their end. */
export class ByteCursor {
  at = 0;
  readonly #view: DataView;
  readonly #text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(
    private readonly path: string,
    private readonly data: Uint8Array,
    private readonly fileSize: number,
  ) {
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  /** The result of `read`; null if it needs bytes that the file has but that aren't at hand yet. */
  whileThereAreBytes<T>(read: () => T): T | null {
    try {
      return read();
    } catch (error) {
      if (error === MORE_BYTES) return null;
      throw error;
    }
  }

  /** The next bytes, as a view. @throws SgemoeError SGEMOE_CHECKPOINT_TRUNCATED */
  bytes(length: number): Uint8Array {
    if (length > this.fileSize - this.at)
      throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', this.path, 'the file ends inside its header');
    if (length > this.data.length - this.at) throw MORE_BYTES;
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  uint32(): number {
    this.bytes(4);
    return this.#view.getUint32(this.at - 4, true);
  }

  uint64(): bigint {
    this.bytes(8);
    return this.#view.getBigUint64(this.at - 8, true);
  }

  /** A number of things, each of at least so many bytes. @throws SgemoeError SGEMOE_CHECKPOINT_TRUNCATED for more than the file can hold. */
  count(what: string, minBytes: number): number {
    const count = this.uint64();
    if (count <= BigInt(Math.floor((this.fileSize - this.at) / minBytes))) return Number(count);
    const promised = `${count} ${what} are promised, more than the rest of the file can hold`;
    throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', this.path, promised);
  }

  /** @throws SgemoeError SGEMOE_CHECKPOINT_HEADER for bytes that aren't UTF-8. */
  string(what: string): string {
    const bytes = this.bytes(this.count(`bytes of ${what}`, 1));
    try {
      return this.#text.decode(bytes);
    } catch (cause) {
      throw corrupt('SGEMOE_CHECKPOINT_HEADER', this.path, `${what} is not UTF-8`, cause);
    }
  }
}
