/** Finds which build of the addon this process can load. */
import { closeSync, openSync, readSync } from 'node:fs';

let name: string | undefined;

/** 'linux-x64', 'linux-arm64-musl', 'darwin-arm64', 'win32-x64', ...: also the folder of a prebuilt addon. */
export function platformName(): string {
  name ??= `${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}`;
  return name;
}

/** Reads the dynamic loader that this Node names. process.report also has the C library, but takes 7 ms. */
function isMusl(): boolean {
  if (process.platform !== 'linux') return false;
  const interpreter = readInterpreter(process.execPath);
  if (interpreter !== null) return interpreter.includes('ld-musl-');
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header !== undefined && report.header.glibcVersionRuntime === undefined;
}

/** Offsets of fields in an ELF file's header and program headers, by the file's class (ELF, chapters 4 and 5). */
const ELF_32 = { tableOffset: 28, entrySize: 42, entryCount: 44, offset: 4, fileSize: 16, wide: false };
const ELF_64 = { tableOffset: 32, entrySize: 54, entryCount: 56, offset: 8, fileSize: 32, wide: true };
const PROGRAM_INTERPRETER = 3;
const MOST_PATH_BYTES = 4096;

/**
 * The dynamic loader that an ELF executable names in its program header PT_INTERP; null for a static executable, another
 * kind of file, or one that can't be read.
 */
export function readInterpreter(path: string): string | null {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return null;
  }
  try {
    return interpreterOf((position, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, position));
    });
  } catch {
    return null; // the file is cut off or missing: a field lies beyond the bytes that were read
  } finally {
    closeSync(file);
  }
}

function interpreterOf(read: (position: number, length: number) => Buffer): string | null {
  const head = read(0, 64);
  if (head.toString('latin1', 0, 4) !== '\x7fELF') return null;
  const fields = head[4] === 1 ? ELF_32 : ELF_64;
  const bigEndian = head[5] === 2;
  const half = (bytes: Buffer, at: number) => (bigEndian ? bytes.readUInt16BE(at) : bytes.readUInt16LE(at));
  const word = (bytes: Buffer, at: number) => (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at));
  const long = (bytes: Buffer, at: number) =>
    Number(bigEndian ? bytes.readBigUInt64BE(at) : bytes.readBigUInt64LE(at));
  const offset = fields.wide ? long : word;
  const size = half(head, fields.entrySize);
  const table = read(offset(head, fields.tableOffset), size * half(head, fields.entryCount));
  for (let at = 0; at < table.length; at += size) {
    if (word(table, at) !== PROGRAM_INTERPRETER) continue;
    const length = Math.min(offset(table, at + fields.fileSize), MOST_PATH_BYTES);
    return read(offset(table, at + fields.offset), length)
      .toString('latin1')
      .split('\0', 1)[0];
  }
  return null;
}
