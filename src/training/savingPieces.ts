import { crc32 } from 'node:zlib';
import type { Collectives } from '../backend/collectives';
import { checkNames, checkTensorInfo, type SaveOptions, saveCheckpoint } from '../checkpoint/checkpoint';
import { joinedCrc32 } from '../checkpoint/crc32';
import type { StreamedTensor } from '../checkpoint/safetensors';
import type { TensorReader } from '../checkpoint/tensorReader';
import { hex, tensorsChecksum } from '../checkpoint/trainingFiles';
import type { MoETransformer } from '../model/model';
import { fromFirst } from './distributed/agreement';
import { parametersOf } from './distributed/divided';

const NONE = new Float32Array(0);

/** A piece of a tensor: elements [start, start + size) of it, which one rank gives. */
export interface TensorPiece {
  readonly name: string;
  /** The shape of the whole tensor. */
  readonly shape: readonly number[];
  readonly start: number;
  readonly size: number;
  readonly rank: number;
  /** A view of the piece; null on other ranks. */
  readonly data: Float32Array | null;
}

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

/** What `model.save` does, for a model whose experts are divided over ranks: all call it, and rank 0 writes. */
export async function saveWhole(dir: string, model: MoETransformer, options: SaveOptions): Promise<void> {
  const { ranks } = model.expertExchange!;
  const pieces = weightPieces(model);
  const stream = new PieceStream(ranks, pieces);
  const { config, generationConfig } = model;
  const content = { config: config.toJSON(), generationConfig, ...options };
  const write = () => saveCheckpoint(dir, { ...content, tensors: stream.tensors(pieces) });
  const writeAndEnd = () => write().finally(() => stream.end());
  await fromFirst(ranks, writeAndEnd, () => stream.serve());
}

/**
 * Tensors of all ranks on their way to rank 0, which writes them: it gets each piece when it wants it, so that it holds one
 * beside its own. Before each, rank 0 says whether it goes on: its write may have failed.
 */
export class PieceStream {
  /** Pieces of others that rank 0 has not got yet. */
  #expected: number;
  /** Whether rank 0 wants the next one. */
  readonly #goesOn = new Uint8Array(1);
  readonly #received: Float32Array;

  constructor(
    private readonly ranks: Collectives,
    private readonly pieces: readonly TensorPiece[],
  ) {
    const others = pieces.filter(({ rank }) => rank !== 0);
    this.#expected = others.length;
    const most = others.reduce((size, piece) => Math.max(size, piece.size), 0);
    this.#received = ranks.rank === 0 ? new Float32Array(most) : NONE;
  }

  /** On rank 0: the tensors of some of the pieces. All chunks are read once and in the order of the pieces. */
  tensors(some: readonly TensorPiece[]): StreamedTensor[] {
    const found = new Map<string, TensorPiece[]>();
    for (const piece of some) {
      const ofName = found.get(piece.name);
      if (ofName) ofName.push(piece);
      else found.set(piece.name, [piece]);
    }
    return Array.from(found, ([name, pieces]) => {
      return { name, dtype: 'F32', shape: pieces[0].shape, chunks: () => this.#chunksOf(pieces) };
    });
  }

  async *#chunksOf(pieces: readonly TensorPiece[]): AsyncGenerator<Uint8Array> {
    for (const piece of pieces) {
      if (piece.rank === 0) yield bytesOf(piece.data!);
      else {
        await this.#say(1);
        await this.#move(piece);
        yield bytesOf(this.#received.subarray(0, piece.size));
      }
    }
  }

  /** On rank 0, after its write, in which every piece was read or none will be any more. */
  async end(): Promise<void> {
    if (this.#expected > 0) await this.#say(0);
  }

  /** On the other ranks: gives rank 0 what it wants. */
  async serve(): Promise<void> {
    for (const piece of this.pieces) {
      if (piece.rank === 0) continue;
      await this.#say(0);
      if (this.#goesOn[0] === 0) return;
      await this.#move(piece);
    }
  }

  /** Rank 0 tells, the others hear. */
  async #say(goesOn: 0 | 1): Promise<void> {
    this.#goesOn[0] = goesOn;
    await this.ranks.broadcast(this.#goesOn, 0, 1, 0).settled();
  }

  async #move({ rank: from, size, data }: TensorPiece): Promise<void> {
    this.#expected--;
    const counts = (rank: number, count: number) =>
      Array.from({ length: this.ranks.size }, (_, r) => (r === rank ? count : 0));
    const sent = counts(0, data === null ? 0 : size);
    const received = counts(from, this.ranks.rank === 0 ? size : 0);
    await this.ranks.allToAll(data ?? NONE, 0, sent, this.#received, 0, received).settled();
  }
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

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
