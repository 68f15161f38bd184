import { crc32 } from 'node:zlib';
import type { Collectives } from '../backend/collectives';
import { checkNames, checkTensorInfo } from '../checkpoint/checkpoint';
import { joinedCrc32 } from '../checkpoint/crc32';
import type { StreamedTensor } from '../checkpoint/safetensors';
import type { TensorReader } from '../checkpoint/tensorReader';
import type { MomentPiece } from './optimizer';

const NONE = new Float32Array(0);

/**
 * The moments of all ranks on their way to rank 0, which writes them: it gets each piece when it wants it, so that it holds one
 * beside its own. Before each, rank 0 says whether it goes on: its write may have failed.
 */
export class MomentStream {
  /** Pieces of others that rank 0 has not got yet. */
  #expected: number;
  /** Whether rank 0 wants the next one. */
  readonly #goesOn = new Uint8Array(1);
  readonly #received: Float32Array;

  constructor(
    private readonly ranks: Collectives,
    private readonly pieces: readonly MomentPiece[],
  ) {
    const others = pieces.filter(({ rank }) => rank !== 0);
    this.#expected = others.length;
    const most = others.reduce((size, piece) => Math.max(size, piece.size), 0);
    this.#received = ranks.rank === 0 ? new Float32Array(most) : NONE;
  }

  /** On rank 0: the moments, whose chunks are read once and in this order. */
  tensors(): StreamedTensor[] {
    const found = new Map<string, MomentPiece[]>();
    for (const piece of this.pieces) {
      const ofName = found.get(piece.name);
      if (ofName) ofName.push(piece);
      else found.set(piece.name, [piece]);
    }
    return Array.from(found, ([name, pieces]) => {
      return { name, dtype: 'F32', shape: pieces[0].shape, chunks: () => this.#chunksOf(pieces) };
    });
  }

  async *#chunksOf(pieces: readonly MomentPiece[]): AsyncGenerator<Uint8Array> {
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

  async #move({ rank: from, size, data }: MomentPiece): Promise<void> {
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
export async function loadMoments(file: TensorReader, pieces: readonly MomentPiece[]): Promise<void> {
  checkNames(file, pieces);
  for (const { name, shape } of pieces) checkTensorInfo(file, name, shape);
  for (const { name, start, data } of pieces) {
    if (data !== null) await file.readPartInto(name, start, data);
  }
}

/** The CRC-32 of the bytes of all ranks' pieces, one behind the other. All ranks call it. */
export async function momentsCrc32(ranks: Collectives, pieces: readonly MomentPiece[]): Promise<number> {
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
