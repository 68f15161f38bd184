import { dirname, join } from 'node:path';
import { MAX_INDEX_BYTES, parseJson, readSmallFile } from './regularFile';
import { SafetensorsFile } from './safetensors';
import {
  corrupt,
  findDuplicateKey,
  isObject,
  quoteName,
  type TensorArray,
  type TensorInfo,
} from './safetensorsHeader';
import type { StoredSpan, TensorReader } from './tensorReader';

/** The file that says which shard holds which tensor. */
export const INDEX_FILE = 'model.safetensors.index.json';

/**
 * A model in several safetensors files, with an index `{ "weight_map": { tensor: file } }` beside them. Opening it checks
 * all headers, and that each tensor is in the file that the index names and in no other.
 */
export class SafetensorsShards implements TensorReader {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;

  private constructor(
    readonly path: string,
    private readonly files: ReadonlyMap<string, SafetensorsFile>,
    private readonly weightMap: ReadonlyMap<string, string>,
  ) {
    this.tensors = new Map([...weightMap].map(([name, file]) => [name, files.get(file)!.info(name)]));
    this.metadata = new Map([...files.values()].flatMap(({ metadata }) => [...metadata]));
  }

  /**
   * @param path of the index; the shards lie in its folder.
   * @throws SgemoeError SGEMOE_CHECKPOINT_INDEX for an index that can't be read or that the files contradict;
   * SGEMOE_CHECKPOINT_NOT_FOUND for a missing shard; the errors of `SafetensorsFile.open` for a shard.
   */
  static async open(path: string): Promise<SafetensorsShards> {
    const weightMap = parseIndex(path, await readIndex(path));
    const files = new Map<string, SafetensorsFile>();
    try {
      for (const file of new Set(weightMap.values())) {
        files.set(file, await SafetensorsFile.open(join(dirname(path), file)));
      }
      checkAgreement(path, weightMap, files);
      return new SafetensorsShards(path, files, weightMap);
    } catch (error) {
      await closeAll(files);
      throw error;
    }
  }

  info(name: string): TensorInfo {
    return this.#fileOf(name).info(name);
  }

  read(name: string): Promise<TensorArray> {
    return this.#fileOf(name).read(name);
  }

  readInto(name: string, destination: TensorArray): Promise<void> {
    return this.#fileOf(name).readInto(name, destination);
  }

  readPartInto(name: string, start: number, destination: TensorArray): Promise<void> {
    return this.#fileOf(name).readPartInto(name, start, destination);
  }

  /** Where a tensor lies. */
  range(name: string): ReturnType<SafetensorsFile['range']> {
    return this.#fileOf(name).range(name);
  }

  span(name: string, start: number, elements: number): StoredSpan | null {
    return this.#fileOf(name).span(name, start, elements);
  }

  close(): Promise<void> {
    return closeAll(this.files);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #fileOf(name: string): SafetensorsFile {
    const file = this.weightMap.get(name);
    if (file !== undefined) return this.files.get(file)!;
    throw corrupt('SGEMOE_CHECKPOINT_MISSING_TENSOR', this.path, `there is no tensor ${quoteName(name)}`);
  }
}

async function closeAll(files: ReadonlyMap<string, SafetensorsFile>): Promise<void> {
  for (const file of files.values()) await file.close();
}

/** The names of the files that an index lists, without repetition. @throws as `SafetensorsShards.open` for the index. */
export async function shardsOfIndex(path: string): Promise<Set<string>> {
  return new Set(parseIndex(path, await readIndex(path)).values());
}

async function readIndex(path: string): Promise<string> {
  try {
    return await readSmallFile(path, MAX_INDEX_BYTES);
  } catch (cause) {
    const what = `the index can not be read: ${(cause as Error).message}`;
    throw corrupt('SGEMOE_CHECKPOINT_NOT_FOUND', path, what, cause);
  }
}

/** The map from tensor name to file name. */
function parseIndex(path: string, text: string): Map<string, string> {
  let root: unknown;
  try {
    root = parseJson(text);
  } catch (cause) {
    throw indexError(path, `the index is not JSON: ${(cause as Error).message}`, cause);
  }
  const map = isObject(root) ? root.weight_map : undefined;
  if (!isObject(map)) throw indexError(path, 'the index has no object "weight_map"');
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) throw indexError(path, `the index has the key ${quoteName(duplicate)} twice`);
  const files = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== 'string' || !/^[^/\\:\0]+\.safetensors$/.test(file)) {
      const got = quoteName(String(file));
      throw indexError(
        path,
        `tensor ${quoteName(name)} must be in a .safetensors file of this folder, got ${got}`,
      );
    }
    files.set(name, file);
  }
  if (files.size === 0) throw indexError(path, 'the index names no tensors');
  return files;
}

function checkAgreement(
  path: string,
  weightMap: ReadonlyMap<string, string>,
  files: ReadonlyMap<string, SafetensorsFile>,
): void {
  for (const [file, { tensors }] of files) {
    for (const name of tensors.keys()) {
      const listed = weightMap.get(name);
      if (listed === file) continue;
      const where = listed === undefined ? 'does not list' : `says is in ${quoteName(listed)}`;
      throw indexError(path, `${quoteName(file)} holds tensor ${quoteName(name)}, which the index ${where}`);
    }
  }
  for (const [name, file] of weightMap) {
    if (files.get(file)!.tensors.has(name)) continue;
    const what = `${quoteName(file)} holds no tensor ${quoteName(name)}, which the index says is there`;
    throw corrupt('SGEMOE_CHECKPOINT_MISSING_TENSOR', path, what);
  }
}

function indexError(path: string, what: string, cause?: unknown): Error {
  return corrupt('SGEMOE_CHECKPOINT_INDEX', path, what, cause);
}
