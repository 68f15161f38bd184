import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { SgemoeError } from '../base/errors';
import { isGgufPath } from '../checkpoint/gguf/ggufFile';
import { jsonFile, readJsonFile } from '../checkpoint/jsonFile';
import { MAX_TOKENIZER_BYTES } from '../checkpoint/regularFile';
import { replaceFiles } from '../checkpoint/replaceFiles';
import { readStoredTokenizer, type StoredTokenizer, tokenizerFiles } from '../checkpoint/tokenizerFiles';
import { loadTokenizer } from './loadTokenizer';
import type { Tokenizer } from './tokenizer';

/**
 * Reads the tokenizer of a folder (tokenizer.json and, if present, tokenizer_config.json and chat_template.jinja), such as
 * a checkpoint or a model of the Hugging Face hub, of a GGUF file, or the tokenizer that a JSON file describes.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID if there is none, or none that can be used.
 */
export async function readTokenizer(path: string): Promise<Tokenizer> {
  const { tokenizer, ...beside } = await readStored(path);
  if (tokenizer !== null) return loadTokenizer(tokenizer, beside);
  throw new SgemoeError('SGEMOE_TOKENIZER_INVALID', `There is no tokenizer at ${path}.`);
}

/**
 * Writes a tokenizer whole or not at all: all of its files into a folder or, if the path ends in .json, that one file.
 * @throws SgemoeError SGEMOE_CHECKPOINT_WRITE
 */
export async function writeTokenizer(path: string, tokenizer: Tokenizer): Promise<void> {
  if (path.endsWith('.json')) {
    await replaceFiles(dirname(path), [jsonFile(basename(path), tokenizer.toJSON())]);
  } else {
    await replaceFiles(path, tokenizerFiles(tokenizer.files()));
  }
}

/** SHA-256, in hexadecimal, of a tokenizer.json's content; white space between values doesn't matter. */
export function tokenizerHash(tokenizer: Tokenizer): string {
  return createHash('sha256').update(JSON.stringify(tokenizer.toJSON())).digest('hex');
}

async function readStored(path: string): Promise<StoredTokenizer> {
  const stats = await stat(path).catch(() => null);
  if (stats?.isDirectory() || isGgufPath(path)) return readStoredTokenizer(path);
  return { tokenizer: await readJsonFile(path, 'SGEMOE_TOKENIZER_INVALID', MAX_TOKENIZER_BYTES) };
}
