import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SgemoeError } from '../base/errors';
import { ADAPTER_CONFIG, CONFIG_FILE } from '../checkpoint/checkpoint';
import { isGgufPath } from '../checkpoint/gguf/ggufFile';
import { readJson } from '../checkpoint/jsonFile';
import { locateFile } from '../checkpoint/replaceFiles';
import { readStoredTokenizer, type StoredTokenizer } from '../checkpoint/tokenizerFiles';
import { modelPath } from './hub/modelPath';
import type { PullOptions } from './hub/pull';

/**
 * Where the base is of a folder that holds adapters and no model: what its adapter_config.json calls `base_model_name_or_path`, a path
 * from the working directory or else from the folder, or a model of the hub, which is downloaded as `pull` does. null for a path that
 * is no such folder.
 * @throws SgemoeError SGEMOE_CONFIG_INVALID if it names no base; as `pull`.
 */
export async function adapterBase(dir: string, hub: PullOptions = {}): Promise<string | null> {
  if (isGgufPath(dir) || existsSync(await locateFile(dir, CONFIG_FILE))) return null;
  const json = await readJson(dir, ADAPTER_CONFIG, 'SGEMOE_CONFIG_INVALID');
  if (json === null) return null;
  const { base_model_name_or_path: base } = json;
  if (typeof base !== 'string' || base === '') {
    const path = join(dir, ADAPTER_CONFIG);
    throw new SgemoeError('SGEMOE_CONFIG_INVALID', `${path}: base_model_name_or_path names no model.`);
  }
  const beside = join(dir, base);
  return !existsSync(base) && existsSync(beside) ? beside : modelPath(base, { ...hub, revision: undefined });
}

/** The tokenizer of a folder or a GGUF file; for a folder of adapters without one, that of their base. */
export async function readModelTokenizer(dir: string, hub: PullOptions = {}): Promise<StoredTokenizer> {
  const stored = await readStoredTokenizer(dir);
  if (stored.tokenizer !== null) return stored;
  const base = await adapterBase(dir, hub);
  return base === null ? stored : readStoredTokenizer(base);
}
