import { crc32 } from 'node:zlib';
import { jsonFile, readJson } from './jsonFile';
import { MAX_TOKENIZER_BYTES, readSmallBytes } from './regularFile';
import { locateFile, type NewFile } from './replaceFiles';
import { bytesOf, type NamedTensor, type PlacedTensors, SafetensorsFile, writePlaced } from './safetensors';
import { corrupt } from './safetensorsHeader';

const STATE_FILE = 'state.json';
const OPTIMIZER_FILE = 'optimizer.safetensors';

/** The files that a training adds to a checkpoint. */
export const TRAINING_FILES = [OPTIMIZER_FILE, STATE_FILE] as const;

const FORMAT = 'sgemoe-training';
const VERSION = 1;

/*
 * Keys of state.json that hold a CRC-32 as 8 hexadecimal digits, which finds every changed bit and every run of up to 32
 * changed bits. The checksums of weights and moments are computed from the numbers in memory, so that a resume reads no
 * file twice.
 */
/** Checksum of the weights. The header of optimizer.safetensors has it too, since its moments belong to these weights. */
const WEIGHTS_KEY = 'weights_crc32';
const OPTIMIZER_KEY = 'optimizer_crc32';
/** Checksums by name of the other files saved with them: the model's configuration, the tokenizer. */
const FILES_KEY = 'files_crc32';
/** Checksum of all other values of state.json. */
const STATE_KEY = 'state_crc32';

export interface TrainingContent {
  /** Becomes state.json, with the format's version and the checksums added. */
  state: Readonly<Record<string, unknown>>;
  /** Become optimizer.safetensors. They must not change until the save is done. */
  optimizer: PlacedTensors;
  /** The CRC-32 of their bytes, as 8 hexadecimal digits. */
  optimizerChecksum: string;
  /** `tensorsChecksum` of the weights saved with them. */
  weightsChecksum: string;
}

export interface StoredTraining {
  state: Record<string, unknown>;
  /** The file, open at first; the caller closes it. */
  optimizer: SafetensorsFile;
}

/** The files to write. @param beside the other files of the save; those in memory get a checksum. */
export function trainingFiles(content: TrainingContent, beside: readonly NewFile[]): NewFile[] {
  const { state, optimizer, optimizerChecksum, weightsChecksum } = content;
  const files = beside.flatMap(({ name, bytes }) => (bytes ? [[name, hex(crc32(bytes))] as const] : []));
  const whole = {
    format: FORMAT,
    version: VERSION,
    [WEIGHTS_KEY]: weightsChecksum,
    [OPTIMIZER_KEY]: optimizerChecksum,
    [FILES_KEY]: Object.fromEntries(files),
    ...state,
  };
  const header = { [WEIGHTS_KEY]: weightsChecksum };
  return [
    { name: OPTIMIZER_FILE, write: (handle, path) => writePlaced(optimizer, header, handle, path) },
    jsonFile(STATE_FILE, { ...whole, [STATE_KEY]: stateChecksum(whole) }),
  ];
}

/**
 * Opens the training files of a checkpoint whose weights have this checksum. It refuses weights that were saved or copied
 * over those of the training, since they must not continue with its moments.
 * @throws SgemoeError SGEMOE_TRAINING_STATE, or as `SafetensorsFile.open`.
 */
export async function openTraining(dir: string, weightsChecksum: string): Promise<StoredTraining> {
  const path = await locateFile(dir, STATE_FILE);
  const state = await readJson(dir, STATE_FILE, 'SGEMOE_TRAINING_STATE');
  if (state === null)
    throw invalidState(path, 'there is no such file: the folder holds weights, no training');
  if (state.format !== FORMAT) throw invalidState(path, `format must be "${FORMAT}"`);
  if (state.version !== VERSION) {
    throw invalidState(path, `version must be ${VERSION}, got ${String(state.version)}`);
  }
  if (state[WEIGHTS_KEY] !== weightsChecksum)
    throw invalidState(path, 'it belongs to other weights than those here, or they are damaged');
  const optimizer = await SafetensorsFile.open(await locateFile(dir, OPTIMIZER_FILE));
  if (optimizer.metadata.get(WEIGHTS_KEY) === weightsChecksum) return { state, optimizer };
  await optimizer.close();
  throw invalidState(optimizer.path, 'it belongs to other weights than those here');
}

/**
 * Compares the small files of a training (configuration, tokenizer) with their checksums, before anything is made of them:
 * what a damaged one says would be blamed on another file. Does nothing where state.json can't tell: it is missing, of an
 * older version or damaged itself, which `checkState` reports.
 * @throws SgemoeError SGEMOE_TRAINING_STATE that names the damaged file.
 */
export async function checkTrainingFiles(dir: string): Promise<void> {
  const state = await readJson(dir, STATE_FILE, 'SGEMOE_TRAINING_STATE');
  if (state === null || !hasChecksums(state) || !isWhole(state)) return;
  for (const [name, expected] of Object.entries(state[FILES_KEY] ?? {})) {
    const path = await locateFile(dir, name);
    const bytes = await readSmallBytes(path, MAX_TOKENIZER_BYTES).catch((cause: Error) => {
      throw invalidState(path, `it can not be read: ${cause.message}`, cause);
    });
    if (hex(crc32(bytes)) !== expected) throw damaged(path);
  }
}

/**
 * Compares state.json itself and the moments with their checksums. Returns false for a training of an older version, which
 * wrote only the checksum of the weights.
 * @param momentsCrc the CRC-32 of the moments' bytes as they were read, in the order of the file.
 * @throws SgemoeError SGEMOE_TRAINING_STATE that names the damaged file.
 */
export async function checkState(
  dir: string,
  { state, optimizer }: StoredTraining,
  momentsCrc: number,
): Promise<boolean> {
  if (!hasChecksums(state)) return false;
  if (!isWhole(state)) throw damaged(await locateFile(dir, STATE_FILE));
  if (state[OPTIMIZER_KEY] !== hex(momentsCrc)) throw damaged(optimizer.path);
  return true;
}

/** Whether state.json holds what its own checksum was computed from. */
function isWhole({ [STATE_KEY]: checksum, ...rest }: Record<string, unknown>): boolean {
  return checksum === stateChecksum(rest);
}

function hasChecksums(state: Record<string, unknown>): boolean {
  return state[STATE_KEY] !== undefined || state[OPTIMIZER_KEY] !== undefined;
}

function damaged(path: string): Error {
  return invalidState(path, 'it is damaged: its content has another checksum');
}

/** Whether the folder holds the state of a training. */
export async function hasTraining(dir: string): Promise<boolean> {
  return (await readJson(dir, STATE_FILE, 'SGEMOE_TRAINING_STATE')) !== null;
}

/** The CRC-32 of the tensors' bytes in the given order, as 8 hexadecimal digits. */
export function tensorsChecksum(tensors: Iterable<NamedTensor>): string {
  let crc = 0;
  for (const { data } of tensors) {
    crc = crc32(bytesOf(data), crc);
  }
  return hex(crc);
}

/** The checksum of JSON values, which doesn't depend on spaces between them. */
function stateChecksum(state: object): string {
  return hex(crc32(JSON.stringify(state)));
}

/** A CRC-32 as 8 hexadecimal digits. */
export function hex(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}

/** SGEMOE_TRAINING_STATE, naming the file. */
export function invalidState(path: string, what: string, cause?: unknown): Error {
  return corrupt('SGEMOE_TRAINING_STATE', path, what, cause);
}
