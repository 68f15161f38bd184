import { SgemoeError } from '../base/errors';
import type { Some } from '../base/options';
import { isGgufPath } from './gguf/ggufFile';
import { readGgufTokenizer } from './gguf/ggufTokenizer';
import { jsonFile, readJson, textFile } from './jsonFile';
import {
  MAX_TEMPLATE_BYTES,
  MAX_TOKENIZER_BYTES,
  MAX_TOKENIZER_CONFIG_BYTES,
  readSmallFile,
} from './regularFile';
import { locateFile, type NewFile } from './replaceFiles';

const TOKENIZER_FILE = 'tokenizer.json';
const TOKENIZER_CONFIG_FILE = 'tokenizer_config.json';
const CHAT_TEMPLATE_FILE = 'chat_template.jinja';

/** Names of the files of a tokenizer, in a checkpoint or in a folder of its own. */
export const TOKENIZER_FILES = [TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, CHAT_TEMPLATE_FILE] as const;

/** The tokenizer files stored beside a model. */
export interface TokenizerFiles {
  /** The content of tokenizer.json. */
  tokenizer: object;
  /** The content of tokenizer_config.json: the token that ends a text, chat templates and more. */
  tokenizerConfig?: object | undefined;
  /** The text of chat_template.jinja; it takes precedence over a template in tokenizer_config.json. */
  chatTemplate?: string | undefined;
}

/** The tokenizer files of a folder, or what a GGUF file has for them. */
export interface StoredTokenizer {
  /** The content of tokenizer.json; null if there is none. */
  tokenizer: Record<string, unknown> | null;
  tokenizerConfig?: Record<string, unknown> | undefined;
  chatTemplate?: string | undefined;
}

/** The files to write, of those that are given. */
export function tokenizerFiles(files: Some<TokenizerFiles>): NewFile[] {
  const { tokenizer, tokenizerConfig, chatTemplate } = files;
  const written: NewFile[] = [];
  if (tokenizer !== undefined) written.push(jsonFile(TOKENIZER_FILE, tokenizer));
  if (tokenizerConfig !== undefined) written.push(jsonFile(TOKENIZER_CONFIG_FILE, tokenizerConfig));
  if (chatTemplate !== undefined) written.push(textFile(CHAT_TEMPLATE_FILE, chatTemplate));
  return written;
}

/**
 * The tokenizer of a folder or a GGUF file.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID for a file that can't be read; the errors of `GgufFile.open`.
 */
export async function readStoredTokenizer(dir: string): Promise<StoredTokenizer> {
  if (isGgufPath(dir)) return readGgufTokenizer(dir);
  const code = 'SGEMOE_TOKENIZER_INVALID';
  const [tokenizer, tokenizerConfig, chatTemplate] = await Promise.all([
    readJson(dir, TOKENIZER_FILE, code, MAX_TOKENIZER_BYTES),
    readJson(dir, TOKENIZER_CONFIG_FILE, code, MAX_TOKENIZER_CONFIG_BYTES),
    readChatTemplate(dir),
  ]);
  const stored: StoredTokenizer = { tokenizer };
  if (tokenizerConfig !== null) stored.tokenizerConfig = tokenizerConfig;
  if (chatTemplate !== null) stored.chatTemplate = chatTemplate;
  return stored;
}

async function readChatTemplate(dir: string): Promise<string | null> {
  const path = await locateFile(dir, CHAT_TEMPLATE_FILE);
  try {
    return await readSmallFile(path, MAX_TEMPLATE_BYTES);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new SgemoeError('SGEMOE_TOKENIZER_INVALID', `${path} can not be read: ${message}`, { cause });
  }
}
