import { crc32 } from 'node:zlib';
import { jsonFile, readJson } from './jsonFile';
import { locateFile, type NewFile } from './replaceFiles';
import { asF32, encodeSafetensors, type NamedTensor, SafetensorsFile, writeChunks } from './safetensors';
import { corrupt } from './safetensorsHeader';

const STATE_FILE = 'state.json';
const OPTIMIZER_FILE = 'optimizer.safetensors';

/** What a training adds to a checkpoint. */
export const TRAINING_FILES = [OPTIMIZER_FILE, STATE_FILE] as const;

const FORMAT = 'sgemoe-training';
const VERSION = 1;
/** In the header of optimizer.safetensors: the checksum of the weights that the moments belong to. */
const CHECKSUM_KEY = 'weights_crc32';

export interface TrainingContent {
  /** Becomes state.json, with the format's version and the checksum added. */
  state: Readonly<Record<string, unknown>>;
  /** Become optimizer.safetensors, as F32. They must not change until the save is done. */
  optimizer: Iterable<NamedTensor>;
  /** `weightsChecksum` of the weights saved with them. */
  checksum: string;
}

export interface StoredTraining {
  state: Record<string, unknown>;
  /** Open: the caller closes it. */
  optimizer: SafetensorsFile;
}

/** The files to write. */
export function trainingFiles({ state, optimizer, checksum }: TrainingContent): NewFile[] {
  const moments = encodeSafetensors(asF32(optimizer), { [CHECKSUM_KEY]: checksum });
  const head = { format: FORMAT, version: VERSION, [CHECKSUM_KEY]: checksum };
  return [
    { name: OPTIMIZER_FILE, write: (handle) => writeChunks(handle, moments) },
    jsonFile(STATE_FILE, { ...head, ...state }),
  ];
}

/**
 * The training files of a checkpoint, whose weights have this checksum: weights that were saved or copied over those of
 * the training must not go on with its moments.
 * @throws SgemoeError SGEMOE_TRAINING_STATE, or as `SafetensorsFile.open`.
 */
export async function openTraining(dir: string, checksum: string): Promise<StoredTraining> {
  const path = await locateFile(dir, STATE_FILE);
  const state = await readJson(dir, STATE_FILE, 'SGEMOE_TRAINING_STATE');
  if (state === null)
    throw invalidState(path, 'there is no such file: the folder holds weights, no training');
  if (state.format !== FORMAT) throw invalidState(path, `format must be "${FORMAT}"`);
  if (state.version !== VERSION) {
    throw invalidState(path, `version must be ${VERSION}, got ${String(state.version)}`);
  }
  if (state[CHECKSUM_KEY] !== checksum)
    throw invalidState(path, 'it belongs to other weights than those here');
  const optimizer = await SafetensorsFile.open(await locateFile(dir, OPTIMIZER_FILE));
  if (optimizer.metadata.get(CHECKSUM_KEY) === checksum) return { state, optimizer };
  await optimizer.close();
  throw invalidState(optimizer.path, 'it belongs to other weights than those here');
}

/** Whether the folder holds the state of a training. */
export async function hasTraining(dir: string): Promise<boolean> {
  return (await readJson(dir, STATE_FILE, 'SGEMOE_TRAINING_STATE')) !== null;
}

/** CRC-32 of the tensors' bytes in the order given, as 8 hexadecimal digits. */
export function weightsChecksum(tensors: Iterable<NamedTensor>): string {
  let crc = 0;
  for (const { data } of tensors) {
    crc = crc32(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), crc);
  }
  return crc.toString(16).padStart(8, '0');
}

/** SGEMOE_TRAINING_STATE, naming the file. */
export function invalidState(path: string, what: string, cause?: unknown): Error {
  return corrupt('SGEMOE_TRAINING_STATE', path, what, cause);
}
