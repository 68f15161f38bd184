/**
 * sgemoe in a browser: models, training and generation on the page or in a worker of it, by WebAssembly.
 * scripts/build-web.js bundles it as one module, dist/web/index.js; kernels.wasm.gz lies beside it.
 */
import { type LoadOptions, loadKernels } from './backend/browser';
import type { BackendInfo } from './backend/kernels';
import { SgemoeError } from './base/errors';
import type { Checkpoint } from './checkpoint/checkpoint';
import { SafetensorsFile } from './checkpoint/safetensors';
import { MoETransformer } from './model/model';
import { loadTokenizer } from './text/loadTokenizer';
import type { Tokenizer } from './text/tokenizer';

export { backendInfo, type LoadOptions } from './backend/browser';
export type { BackendInfo } from './backend/kernels';
export { SgemoeError } from './base/errors';
export { ModelConfig, type ModelConfigOptions } from './config/modelConfig';
export { Decoder } from './model/decoder';
export { memoryBytes } from './model/memoryBytes';
export { MoETransformer } from './model/model';
export { generate } from './sampling/generate';
export { Sampler } from './sampling/sampler';
export { Tensor } from './tensor/tensor';
export { ByteTokenizer } from './text/byteTokenizer';
export { loadTokenizer } from './text/loadTokenizer';
export { Trainer } from './training/trainer';

/** The model and the tokenizer of a folder on a server. */
export interface FetchedModel {
  model: MoETransformer;
  /** null where there is no tokenizer.json. */
  tokenizer: Tokenizer | null;
}

/**
 * Gets the kernels ready. Await it before anything else. Later calls return the same.
 * @param folder that has kernels.wasm.gz and kernels-relaxed.wasm.gz, of which one is fetched; default: beside this module.
 * @throws SgemoeError SGEMOE_BACKEND_UNAVAILABLE when it can't be fetched; RangeError for an option.
 */
export function load(folder?: string | URL, options: LoadOptions = {}): Promise<BackendInfo> {
  // These are literals because bundlers follow them.
  const files = {
    simd128: new URL('./kernels.wasm.gz', folder ?? SGEMOE_MODULE_URL),
    'relaxed-simd': new URL('./kernels-relaxed.wasm.gz', folder ?? SGEMOE_MODULE_URL),
  };
  return loadKernels(files, options);
}

/** The bundle's URL. build-web.js fills it in, since TypeScript compiles this file as CommonJS, which has no import.meta. */
declare const SGEMOE_MODULE_URL: string;

/**
 * Fetches a model: config.json, model.safetensors and, if they exist, generation_config.json and tokenizer.json of the folder
 * `url`, which sgemoe or the `transformers` library has written. Shards are not fetched.
 * @throws SgemoeError SGEMOE_CHECKPOINT_NOT_FOUND for a file that can't be fetched; the errors of `MoETransformer.load`.
 */
export async function fetchModel(url: string): Promise<FetchedModel> {
  await load();
  const folder = url.endsWith('/') ? url : `${url}/`;
  const [config, generationConfig, tokenizer, weights] = await Promise.all([
    fetchJson(`${folder}config.json`, true),
    fetchJson(`${folder}generation_config.json`, false),
    fetchJson(`${folder}tokenizer.json`, false),
    fetchFile(`${folder}model.safetensors`, true),
  ]);
  const path = `${folder}model.safetensors`;
  const tensors = await SafetensorsFile.fromBytes(path, new Uint8Array(await weights!.arrayBuffer()));
  const checkpoint: Checkpoint = { config: config!, generationConfig, tokenizer, tensors };
  const model = await MoETransformer.fromCheckpoint(url, checkpoint);
  return { model, tokenizer: tokenizer === null ? null : loadTokenizer(tokenizer) };
}

async function fetchJson(url: string, required: boolean): Promise<Record<string, unknown> | null> {
  const response = await fetchFile(url, required);
  if (response === null) return null;
  try {
    return (await response.json()) as Record<string, unknown>;
  } catch (cause) {
    throw new SgemoeError('SGEMOE_CONFIG_INVALID', `${url} is not JSON`, { cause });
  }
}

/** Returns null for an optional file that isn't there. */
async function fetchFile(url: string, required: boolean): Promise<Response | null> {
  let reason: string;
  try {
    const response = await fetch(url);
    if (response.ok) return response;
    if (response.status === 404 && !required) return null;
    reason = `${response.status} ${response.statusText}`;
  } catch (error) {
    reason = (error as Error).message;
  }
  throw new SgemoeError('SGEMOE_CHECKPOINT_NOT_FOUND', `${url} can not be fetched: ${reason}`);
}
