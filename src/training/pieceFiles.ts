import { randomFillSync } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Collectives } from '../backend/collectives';
import { systemReason } from '../checkpoint/replaceFiles';
import { bytesOf, type PlacedTensors, writeChunks } from '../checkpoint/safetensors';
import { fromFirst, isAgreed, together } from './distributed/agreement';

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

/** A file that rank 0 has made. */
interface Place {
  /** Which of the files. */
  readonly file: number;
  /** From the folder that is saved in. */
  readonly path: string;
  /** The byte at which the tensors' data begin. */
  readonly at: number;
}

const NONE = new Float32Array(0);
const MARK_BYTES = 16;
/** A multiple of the size of every system's pages. */
const PAGE_BYTES = 2 ** 16;

/**
 * Files of float32 tensors whose pieces lie on several ranks. Rank 0 makes the files and commits them. All ranks that see a file write their
 * pieces into it at the same time; the others send theirs to rank 0, which holds one of them beside its own.
 *
 * A rank sees a file if rank 0 reads there what the rank has written: random bytes at the rank's place behind the data. So neither a file of
 * the same path on another disk nor a copy is taken for it.
 *
 * Hosts of a network file system keep pages of a file, and one that has the whole of a page may write it whole, over what another host
 * has written into it. None ever has a page with data of others: the file gets its length first, its handles can't read, and the
 * marks lie in pages of their own.
 */
export class PieceFiles {
  readonly #goesOn = new Uint8Array(1);

  /**
   * @param dir the folder that is saved in, as this rank sees it.
   * @param files the pieces of each file in its order, the same on all ranks but for `data`.
   */
  constructor(
    private readonly ranks: Collectives,
    private readonly dir: string,
    private readonly files: readonly (readonly TensorPiece[])[],
  ) {}

  /** Runs on rank 0 the job that saves, and on the others their part of it. @throws on all ranks what the job throws. */
  save(job: () => Promise<void>): Promise<void> {
    const jobAndEnd = () => job().finally(() => this.#announce(null));
    return fromFirst(this.ranks, jobAndEnd, () => this.#follow());
  }

  /** On rank 0, within `save`: what is written into a file. */
  tensors(file: number): PlacedTensors {
    const shapes = new Map(this.files[file].map(({ name, shape }) => [name, shape]));
    return {
      tensors: Array.from(shapes, ([name, shape]) => ({ name, shape, dtype: 'F32' })),
      write: async (handle, path, header) => {
        const place = { file, path: relative(this.dir, path), at: header.length };
        const { pieces, end, marksAt } = this.#layout(place);
        const isShared = pieces.some(({ rank }) => rank !== 0);
        if (isShared) await handle.truncate(marksAt + MARK_BYTES * this.ranks.size);
        await writeChunks(handle, [header], 0);
        if (!isShared) return writeOwn(handle, pieces);
        await this.#announce(place);
        await this.#write(place, handle);
        await handle.truncate(end);
      },
    };
  }

  /** On the other ranks: takes part in each file until rank 0 has ended. */
  async #follow(): Promise<void> {
    for (;;) {
      const place = await this.#announce(null);
      if (place === null) return;
      await this.#write(place, null).catch((error) => {
        // Rank 0 has it, too, and tells what it means.
        if (!isAgreed(error)) throw error;
      });
    }
  }

  /** Rank 0 tells of a file, or of the end; the others hear. */
  #announce(place: Place | null): Promise<Place | null> {
    return fromFirst(this.ranks, async () => place);
  }

  /** On all ranks: writes all pieces of a file. @param made rank 0's handle. @throws on all ranks when one can't write. */
  async #write(place: Place, made: FileHandle | null): Promise<void> {
    const { ranks } = this;
    const { pieces, marksAt } = this.#layout(place);
    const path = join(this.dir, place.path);
    const marks = new Uint8Array(MARK_BYTES * ranks.size);
    const own = randomFillSync(marks.subarray(MARK_BYTES * ranks.rank, MARK_BYTES * (ranks.rank + 1)));
    const hasOwn = pieces.some(({ data }) => data !== null);
    const handle = made ?? (hasOwn ? await openMarked(path, own, marksAt + own.byteOffset) : null);
    await ranks.allGather(marks, 0, new Array(ranks.size).fill(MARK_BYTES)).settled();
    const seeing = await fromFirst(ranks, () => seeingRanks(path, marks, marksAt));
    const written = seeing.includes(ranks.rank) ? pieces : [];
    await together(ranks, async () => {
      if (made !== null) await writeOwn(made, pieces);
      else if (handle !== null) await writeAndClose(handle, written);
    });
    const sent = pieces.filter(({ rank }) => rank !== 0 && !seeing.includes(rank));
    await this.#send(sent, made);
  }

  /** On all ranks: moves pieces to rank 0, which writes each before it takes the next. */
  async #send(pieces: readonly PlacedPiece[], made: FileHandle | null): Promise<void> {
    const most = made === null ? 0 : pieces.reduce((size, piece) => Math.max(size, piece.size), 0);
    const received = new Float32Array(most);
    let failure: unknown = null;
    for (const piece of pieces) {
      this.#goesOn[0] = failure === null ? 1 : 0;
      await this.ranks.broadcast(this.#goesOn, 0, 1, 0).settled();
      if (this.#goesOn[0] === 0) break;
      await this.#move(piece, received);
      if (made === null) continue;
      const data = received.subarray(0, piece.size);
      await writeOwn(made, [{ ...piece, data }]).catch((error) => (failure = error));
    }
    if (failure !== null) throw failure;
  }

  async #move({ rank: from, size, data }: TensorPiece, received: Float32Array): Promise<void> {
    const counts = (rank: number, count: number) =>
      Array.from({ length: this.ranks.size }, (_, r) => (r === rank ? count : 0));
    const sent = counts(0, data === null ? 0 : size);
    const taken = counts(from, this.ranks.rank === 0 ? size : 0);
    await this.ranks.allToAll(data ?? NONE, 0, sent, received, 0, taken).settled();
  }

  /** Where the pieces of a file lie, ends the last one, and begin the marks. */
  #layout({ file, at }: Place): { pieces: PlacedPiece[]; end: number; marksAt: number } {
    let end = at;
    const pieces = this.files[file].map((piece) => {
      const position = end;
      end += piece.size * Float32Array.BYTES_PER_ELEMENT;
      return { ...piece, position };
    });
    return { pieces, end, marksAt: Math.ceil(end / PAGE_BYTES) * PAGE_BYTES };
  }
}

interface PlacedPiece extends TensorPiece {
  /** Its first byte in the file. */
  readonly position: number;
}

/** Writes this rank's pieces. */
async function writeOwn(handle: FileHandle, pieces: readonly PlacedPiece[]): Promise<void> {
  for (const { data, position } of pieces) {
    if (data !== null) await writeChunks(handle, [bytesOf(data)], position);
  }
}

/** On another rank than 0: a file with this rank's mark in it; null, and the mark is another, where there is none or it can't be written. */
async function openMarked(path: string, mark: Uint8Array, position: number): Promise<FileHandle | null> {
  const handle = await open(path, constants.O_WRONLY).catch(() => null);
  if (handle === null) return null;
  try {
    await writeChunks(handle, [mark], position);
    await handle.sync();
    return handle;
  } catch {
    await handle.close();
    randomFillSync(mark);
    return null;
  }
}

/** On rank 0: the ranks whose marks are in the file. */
async function seeingRanks(path: string, marks: Uint8Array, position: number): Promise<number[]> {
  const found = new Uint8Array(marks.length);
  // What isn't read is no rank's mark: the ranks send their pieces.
  const handle = await open(path).catch(() => null);
  await handle?.read(found, 0, found.length, position).catch(() => undefined);
  await handle?.close();
  const isFound = (rank: number) => {
    const [from, end] = [MARK_BYTES * rank, MARK_BYTES * (rank + 1)];
    return Buffer.compare(marks.subarray(from, end), found.subarray(from, end)) === 0;
  };
  return Array.from({ length: marks.length / MARK_BYTES }, (_, rank) => rank).filter(isFound);
}

/** On another rank than 0: writes its pieces to the disk. @throws Error without a code, since rank 0's message has to have this rank's number. */
async function writeAndClose(handle: FileHandle, pieces: readonly PlacedPiece[]): Promise<void> {
  try {
    try {
      await writeOwn(handle, pieces);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new Error(systemReason(cause), { cause });
  }
}
