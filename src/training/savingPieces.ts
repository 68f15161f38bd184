import { crc32 } from 'node:zlib';
import type { Collectives } from '../backend/collectives';
import { checkNames, checkTensorInfo, type SaveOptions, saveCheckpoint } from '../checkpoint/checkpoint';
import { joinedCrc32 } from '../checkpoint/crc32';
import { bytesOf } from '../checkpoint/safetensors';
import type { TensorReader } from '../checkpoint/tensorReader';
import { hex, tensorsChecksum } from '../checkpoint/trainingFiles';
import type { MoETransformer } from '../model/model';
import { parametersOf } from './distributed/divided';
import { PieceFiles, type TensorPiece } from './pieceFiles';

/** Elements of a piece of a weight: 8 MB. */
const MOST_ELEMENTS = 2 ** 21;

/** The weights of a model whose experts are divided over ranks, and its buffers: each piece from the first rank that has it. */
export function weightPieces(model: MoETransformer): TensorPiece[] {
  const { store, expertExchange } = model;
  const { rank } = expertExchange!.ranks;
  const pieces = parametersOf(model).flatMap(({ parameter, position, store: placed }) => {
    const owner = parameter.weight.dividedFrom === null ? 0 : position;
    const data = placed === store && owner === rank ? parameter.viewIn(store.shards) : null;
    return cut({
      name: parameter.name,
      shape: parameter.shape,
      start: 0,
      size: parameter.size,
      rank: owner,
      data,
    });
  });
  const buffers = store.bufferTensors().flatMap(({ name, shape, data }) => {
    return cut({ name, shape, start: 0, size: data.length, rank: 0, data: rank === 0 ? data : null });
  });
  return [...pieces, ...buffers];
}

function cut(whole: TensorPiece): TensorPiece[] {
  const { size, data } = whole;
  return Array.from({ length: Math.ceil(size / MOST_ELEMENTS) }, (_, i) => {
    const start = i * MOST_ELEMENTS;
    const end = Math.min(size, start + MOST_ELEMENTS);
    return { ...whole, start, size: end - start, data: data?.subarray(start, end) ?? null };
  });
}

/** The checksum of a model's weights, see `tensorsChecksum`. All ranks over which its experts are divided call it. */
export async function weightsChecksum(model: MoETransformer): Promise<string> {
  const { expertExchange, trained } = model;
  if (expertExchange === null) return tensorsChecksum(trained.checkpointTensors());
  return hex(await piecesCrc32(expertExchange.ranks, weightPieces(model)));
}

/** What `model.save` does, for a model whose experts are divided over ranks: all call it, and rank 0 commits. */
export async function saveWhole(dir: string, model: MoETransformer, options: SaveOptions): Promise<void> {
  const files = new PieceFiles(model.expertExchange!.ranks, dir, [weightPieces(model)]);
  const { config, generationConfig } = model;
  const content = { config: config.toJSON(), generationConfig, ...options, tensors: files.tensors(0) };
  await files.save(() => saveCheckpoint(dir, content));
}

/**
 * Reads this rank's pieces from a file that must hold the moments of exactly these parameters.
 * @throws as `loadTensorsInto`.
 */
export async function loadMoments(file: TensorReader, pieces: readonly TensorPiece[]): Promise<void> {
  checkNames(file, pieces);
  for (const { name, shape } of pieces) checkTensorInfo(file, name, shape);
  for (const { name, start, data } of pieces) {
    if (data !== null) await file.readPartInto(name, start, data);
  }
}

/** The CRC-32 of the bytes of all ranks' pieces, one behind the other. All ranks call it. */
export async function piecesCrc32(ranks: Collectives, pieces: readonly TensorPiece[]): Promise<number> {
  const counts = Array.from({ length: ranks.size }, (_, r) => pieces.filter(({ rank }) => rank === r).length);
  const nextOf = counts.map((_, r) => counts.slice(0, r).reduce((sum, n) => sum + n, 0));
  const crcs = new Int32Array(pieces.length);
  let own = nextOf[ranks.rank];
  for (const { data } of pieces) if (data !== null) crcs[own++] = crc32(bytesOf(data));
  await ranks.allGather(crcs, 0, counts).settled();
  return pieces.reduce((crc, { rank, size }) => {
    return joinedCrc32(crc, crcs[nextOf[rank]++], size * Float32Array.BYTES_PER_ELEMENT);
  }, 0);
}
