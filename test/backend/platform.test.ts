/** Which C library this Node uses, according to the interpreter that its executable names. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { platformName, readInterpreter } from '../../src/backend/platform';

const folder = mkdtempSync(join(tmpdir(), 'sgemoe-elf-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Layout {
  wide: boolean;
  bigEndian?: boolean;
  /** Place of the program headers. */
  table: number;
  /** Place of the interpreter's name. */
  name: number;
}

/** An executable with only program headers: a loadable segment, then the interpreter, unless it is null. */
function elf(interpreter: string | null, { wide, bigEndian = false, table, name }: Layout): string {
  const bytes = Buffer.alloc(Math.max(table, name) + 512);
  const number = (value: number, at: number, length: number) => {
    if (length === 8) {
      const long = BigInt(value);
      if (bigEndian) bytes.writeBigUInt64BE(long, at);
      else bytes.writeBigUInt64LE(long, at);
    } else if (bigEndian) bytes.writeUIntBE(value, at, length);
    else bytes.writeUIntLE(value, at, length);
  };
  bytes.write('\x7fELF', 'latin1');
  bytes[4] = wide ? 2 : 1;
  bytes[5] = bigEndian ? 2 : 1;
  const size = wide ? 56 : 32;
  number(table, wide ? 32 : 28, wide ? 8 : 4);
  number(size, wide ? 54 : 42, 2);
  number(interpreter === null ? 1 : 2, wide ? 56 : 44, 2);
  number(1, table, 4);
  if (interpreter !== null) {
    const at = table + size;
    number(3, at, 4);
    number(name, at + (wide ? 8 : 4), wide ? 8 : 4);
    number(interpreter.length + 1, at + (wide ? 32 : 16), wide ? 8 : 4);
    bytes.write(interpreter, name, 'latin1');
  }
  const path = join(folder, 'program');
  writeFileSync(path, bytes);
  return path;
}

const MUSL = '/lib/ld-musl-x86_64.so.1';

describe('readInterpreter', () => {
  it.each<[string, Layout]>([
    ['near the head', { wide: true, table: 64, name: 400 }],
    ['behind the first pages, as patchelf writes it', { wide: true, table: 90_000, name: 120_000 }],
    ['of 32 bits', { wide: false, table: 52, name: 5000 }],
    ['of the other byte order', { wide: true, bigEndian: true, table: 64, name: 5000 }],
    ['of 32 bits and the other byte order', { wide: false, bigEndian: true, table: 52, name: 5000 }],
  ])('reads a name %s', (_where, layout) => {
    expect(readInterpreter(elf(MUSL, layout))).toBe(MUSL);
  });

  it('finds none in a static executable, in other files, in a cut one and where there is no file', () => {
    expect(readInterpreter(elf(null, { wide: true, table: 64, name: 400 }))).toBeNull();
    const path = join(folder, 'other');
    for (const content of ['', '#!/bin/sh\n', '\x7fELF\x02\x01']) {
      writeFileSync(path, content, 'latin1');
      expect(readInterpreter(path)).toBeNull();
    }
    expect(readInterpreter(join(folder, 'missing'))).toBeNull();
  });

  it.runIf(process.platform === 'linux')(
    'reads that of this Node, whose C library the report tells, too',
    () => {
      Object.assign(process.report, { excludeNetwork: true });
      const { header } = process.report.getReport() as unknown as {
        header: { glibcVersionRuntime?: string };
      };
      expect(platformName()).toBe(
        `linux-${process.arch}${header.glibcVersionRuntime === undefined ? '-musl' : ''}`,
      );
      expect(readInterpreter(process.execPath)).toMatch(/\/ld-/);
    },
  );
});
