import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SgemoeError } from '../../base/errors';
import { readJsonFile } from '../../checkpoint/jsonFile';

export const HEADER_FILE = 'meta.json';
export const FORMAT = 'sgemoe-tokens';
const VERSION = 1;

export type TokenType = 'uint16' | 'uint32';

/** meta.json of a prepared data set; the files beside it hold token ids, little-endian, and nothing else. */
export interface DatasetHeader {
  format: typeof FORMAT;
  version: number;
  dtype: TokenType;
  vocab_size: number;
  /** The token between documents; null if they are separated by a newline. */
  end_of_text: number | null;
  /** SHA-256 of the tokenizer.json's content, see `tokenizerHash`. */
  tokenizer_sha256: string;
  documents: number;
  train: SplitHeader;
  validation: SplitHeader;
}

export interface SplitHeader {
  file: string;
  tokens: number;
  /** Bytes of text that the tokens stand for. */
  bytes: number;
}

export const BYTES_PER_TOKEN: Readonly<Record<TokenType, number>> = { uint16: 2, uint32: 4 };

export function tokenTypeFor(vocabSize: number): TokenType {
  return vocabSize <= 2 ** 16 ? 'uint16' : 'uint32';
}

/** Whether a path is a folder with a prepared data set, complete or not. */
export async function isPreparedDataset(path: string): Promise<boolean> {
  const header = await readJsonFile(join(path, HEADER_FILE), 'SGEMOE_DATA_INVALID').catch(() => null);
  return header?.format === FORMAT;
}

/**
 * Reads the header of a data set and checks it, also against the sizes of the files.
 * @throws SgemoeError SGEMOE_DATA_NOT_FOUND without meta.json, else SGEMOE_DATA_INVALID.
 */
export async function readHeader(dir: string): Promise<DatasetHeader> {
  const path = join(dir, HEADER_FILE);
  const header = (await readJsonFile(path, 'SGEMOE_DATA_INVALID')) as DatasetHeader | null;
  if (header === null) {
    throw new SgemoeError(
      'SGEMOE_DATA_NOT_FOUND',
      `There is no prepared data set in ${dir} (${HEADER_FILE}).`,
    );
  }
  checkFields(path, header);
  for (const split of [header.train, header.validation]) await checkSize(dir, split, header.dtype);
  return header;
}

export function invalidData(path: string, problem: string, cause?: unknown): SgemoeError {
  return new SgemoeError('SGEMOE_DATA_INVALID', `${path}: ${problem}.`, { cause });
}

function checkFields(path: string, header: DatasetHeader): void {
  const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  const must = (holds: boolean, what: string, value: unknown) => {
    if (!holds) throw invalidData(path, `${what}, got ${JSON.stringify(value)}`);
  };
  const { format, version, dtype, vocab_size, end_of_text, tokenizer_sha256 } = header;
  must(format === FORMAT, `"format" must be "${FORMAT}"`, format);
  must(version === VERSION, `"version" must be ${VERSION}, the one this version reads`, version);
  must(isCount(vocab_size) && vocab_size > 0, '"vocab_size" must be an integer >= 1', vocab_size);
  must(dtype === tokenTypeFor(vocab_size), `"dtype" must be ${tokenTypeFor(vocab_size)}`, dtype);
  const isToken = end_of_text === null || (isCount(end_of_text) && end_of_text < vocab_size);
  must(isToken, '"end_of_text" must be a token or null', end_of_text);
  must(/^[0-9a-f]{64}$/.test(tokenizer_sha256), '"tokenizer_sha256" must be a SHA-256', tokenizer_sha256);
  for (const [name, file] of [
    ['train', 'train.bin'],
    ['validation', 'val.bin'],
  ] as const) {
    const split = header[name];
    must(split?.file === file, `"${name}" must have the file "${file}"`, split?.file);
    must(isCount(split.tokens), `"tokens" of "${name}" must be an integer >= 0`, split.tokens);
    must(isCount(split.bytes), `"bytes" of "${name}" must be an integer >= 0`, split.bytes);
  }
}

async function checkSize(dir: string, { file, tokens }: SplitHeader, dtype: TokenType): Promise<void> {
  const path = join(dir, file);
  const expected = tokens * BYTES_PER_TOKEN[dtype];
  const stats = await stat(path).catch((cause) => {
    throw invalidData(path, `it can not be read: ${cause.message}`, cause);
  });
  if (!stats.isFile()) throw invalidData(path, 'it is not a regular file');
  if (stats.size === expected) return;
  throw invalidData(path, `it has ${stats.size} bytes, but ${tokens} tokens of ${dtype} take ${expected}`);
}

export function newHeader(fields: Omit<DatasetHeader, 'format' | 'version' | 'dtype'>): DatasetHeader {
  return { format: FORMAT, version: VERSION, dtype: tokenTypeFor(fields.vocab_size), ...fields };
}
