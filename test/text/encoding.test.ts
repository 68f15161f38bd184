import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ByteTokenizer, prepareDataset, TextDataset } from '../../src';
import { expectError } from '../helpers/expectError';

const folder = mkdtempSync(join(tmpdir(), 'encoding-'));
const GERMAN = 'Über die grünen Hügel, “für” Ärzte; naïve Cafés kosten 5 €.\n'.repeat(50);
const RUSSIAN = 'Съешь же ещё этих мягких французских булок, да выпей чаю.\n'.repeat(50);
const tokenizer = new ByteTokenizer();

function swapped(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16();
}

const latin1 = Buffer.from(GERMAN.replaceAll(/[“”€]/gu, '"'), 'latin1');
const mark = '\ufeff';
const OTHERS: [name: string, encoding: string, bytes: Uint8Array][] = [
  ['latin1', 'Latin-1', latin1],
  ['windows', 'Latin-1', Buffer.from(latin1.map((byte) => (byte === 0x22 ? 0x93 : byte)))],
  ['one accent', 'Latin-1', Buffer.from('a caf\xe9 in the rain', 'latin1')],
  ['utf16le', 'UTF-16LE', Buffer.from(mark + GERMAN, 'utf16le')],
  ['utf16be', 'UTF-16BE', swapped(mark + RUSSIAN)],
  ['utf16le-unmarked', 'UTF-16LE', Buffer.from(GERMAN, 'utf16le')],
  ['utf16be-unmarked', 'UTF-16BE', swapped(GERMAN)],
  [
    'utf32',
    'UTF-32LE',
    Buffer.concat(
      [...(mark + GERMAN)].map((c) => Buffer.from([c.charCodeAt(0) & 255, c.charCodeAt(0) >> 8, 0, 0])),
    ),
  ],
];

describe('text that is not UTF-8 is refused, and named', () => {
  test.each(OTHERS)('%s: %s', async (name, encoding, bytes) => {
    const dir = join(folder, name);
    mkdirSync(dir);
    const file = join(dir, 'text.txt');
    writeFileSync(file, bytes);
    writeFileSync(join(dir, 'other.txt'), 'fine');
    const message = new RegExp(`${name}/text.txt looks like ${encoding}.*iconv`);
    await expectError('SGEMOE_DATA_ENCODING', message, () => TextDataset.fromPaths(file, { tokenizer }));
    await expectError('SGEMOE_DATA_ENCODING', message, () => TextDataset.fromPaths(dir, { tokenizer }));
    const out = join(folder, `${name}-prepared`);
    await expectError('SGEMOE_DATA_ENCODING', message, () => prepareDataset(file, { tokenizer, out }));
  });
});

test('a chunk that begins and ends within a character is read on', async () => {
  const file = join(folder, 'long.txt');
  // Chunks of 2^20 bytes: characters of three bytes are cut.
  writeFileSync(file, '漢'.repeat(800_000));
  const header = await prepareDataset(file, { tokenizer, out: join(folder, 'long') });
  expect(header.train.tokens + header.validation.tokens).toBe(2_400_000);
});

test('UTF-8 with a damaged byte here and there, and binary data, are read', async () => {
  const damaged = Buffer.concat([Buffer.from(RUSSIAN), Buffer.of(0xe9), Buffer.from(RUSSIAN)]);
  const random = Uint8Array.from({ length: 5000 }, (_, i) => (i * i * 31 + i * 7) & 255);
  const rare = Buffer.concat([
    Buffer.from('plain words '.repeat(2000)),
    Buffer.of(0xe9),
    Buffer.from(' and more'),
  ]);
  for (const [i, bytes] of [damaged, random, rare, Buffer.from([0xff, 0xfe, 1, 0xd8])].entries()) {
    const file = join(folder, `kept-${i}`);
    writeFileSync(file, bytes);
    const { train, validation } = await prepareDataset(file, {
      tokenizer,
      out: join(folder, `prepared-${i}`),
    });
    expect(train.tokens + validation.tokens).toBe(bytes.length);
  }
});
