import { types } from 'node:util';
import { checkInteger } from '../../base/checks';
import { contradictionOf, EXCHANGE_NAMES, type Exchange, MOVABLE_TYPES } from './exchange';

/*
 * The memory that the threads of a group share. Each rank has two slots, used in turn, with a head (what it calls, the bytes it
 * sends and expects) and a cell for each rank. Words, by index: */
const MAGIC_WORD = 0;
const SIZE_WORD = 1;
const CELL_BYTES_WORD = 2;
/** Counts everything that a waiting rank may wait for. */
const BELL = 3;
/** 1 once a rank is about to write why it aborts, so that there is one reason. */
const CLAIMED = 4;
/** The rank that has aborted + 1. */
const ABORTED = 5;
const REASON_BYTES = 6;
/** From here on two words for each rank: its phase, and whether a thread has taken it. */
const RANKS = 8;

const MAGIC = 0x5347_4d43;
const MOST_RANKS = 256;
const MOST_REASON_BYTES = 1024;

const aligned = (bytes: number): number => Math.ceil(bytes / 64) * 64;

interface Layout {
  readonly reasonAt: number;
  readonly slotsAt: number;
  readonly headDoubles: number;
  readonly slotBytes: number;
  readonly totalBytes: number;
}

function layoutOf(size: number, cellBytes: number): Layout {
  const reasonAt = aligned((RANKS + 2 * size) * 4);
  const slotsAt = aligned(reasonAt + MOST_REASON_BYTES);
  const headDoubles = 2 + 2 * size;
  const slotBytes = aligned(headDoubles * 8 + size * cellBytes);
  return { reasonAt, slotsAt, headDoubles, slotBytes, totalBytes: slotsAt + 2 * size * slotBytes };
}

/** A new group's memory. */
export function createMailbox(size: number, bytesPerRank: number): SharedArrayBuffer {
  checkInteger('size', size, 1);
  if (size > MOST_RANKS) throw new RangeError(`size must be at most ${MOST_RANKS}, got ${size}`);
  checkInteger('bytesPerRank', bytesPerRank, 8 * size);
  if (bytesPerRank > 2 ** 30) throw new RangeError(`bytesPerRank must be at most 2^30, got ${bytesPerRank}`);
  const cellBytes = Math.floor(bytesPerRank / (8 * size)) * 8;
  const buffer = new SharedArrayBuffer(layoutOf(size, cellBytes).totalBytes);
  new Int32Array(buffer).set([MAGIC, size, cellBytes]);
  return buffer;
}

/** One rank's view of the group's memory. */
export class Mailbox {
  readonly rank: number;
  readonly size: number;
  readonly cellBytes: number;
  readonly #words: Int32Array;
  readonly #reason: Uint8Array;
  /** [slot][rank]: heads; [slot][from][to]: cells. */
  readonly #heads: Float64Array[][];
  readonly #cells: Uint8Array[][][];
  #slot = 0;
  #phase = 0;

  /** The mailbox of a rank that nobody has taken. @throws as the constructor, and RangeError if it is taken. */
  static take(buffer: SharedArrayBuffer, rank: number): Mailbox {
    const mailbox = new Mailbox(buffer, rank);
    if (Atomics.exchange(mailbox.#words, RANKS + 2 * rank + 1, 1) === 0) return mailbox;
    throw new RangeError(`rank ${rank} of this group has been taken by another thread or call`);
  }

  /** @throws TypeError, RangeError for memory that no `createMailbox` made, or a rank that is none. */
  constructor(buffer: SharedArrayBuffer, rank: number) {
    if (!types.isSharedArrayBuffer(buffer)) {
      throw new TypeError('group must be the SharedArrayBuffer of createThreadGroup');
    }
    const words = new Int32Array(buffer, 0, Math.floor(buffer.byteLength / 4));
    const [size, cellBytes] = [words[SIZE_WORD], words[CELL_BYTES_WORD]];
    const layout = layoutOf(size, cellBytes);
    if (words[MAGIC_WORD] !== MAGIC || layout.totalBytes !== buffer.byteLength) {
      throw new RangeError('group must be the SharedArrayBuffer of createThreadGroup, of the same version');
    }
    checkInteger('rank', rank, 0);
    if (rank >= size) throw new RangeError(`rank must be in [0, ${size}), got ${rank}`);
    this.rank = rank;
    this.size = size;
    this.cellBytes = cellBytes;
    this.#words = words;
    this.#reason = new Uint8Array(buffer, layout.reasonAt, MOST_REASON_BYTES);
    const slotAt = (slot: number, from: number) => layout.slotsAt + (slot * size + from) * layout.slotBytes;
    const ranks = Array.from({ length: size }, (_, r) => r);
    this.#heads = [0, 1].map((slot) =>
      ranks.map((from) => new Float64Array(buffer, slotAt(slot, from), layout.headDoubles)),
    );
    const cellAt = (slot: number, from: number, to: number) =>
      slotAt(slot, from) + layout.headDoubles * 8 + to * cellBytes;
    this.#cells = [0, 1].map((slot) =>
      ranks.map((from) => ranks.map((to) => new Uint8Array(buffer, cellAt(slot, from, to), cellBytes))),
    );
  }

  /** Goes on where this rank is, which another thread may have brought there: a slot for each phase, in turn. */
  resume(): void {
    this.#phase = Atomics.load(this.#words, RANKS + 2 * this.rank);
    this.#slot = this.#phase & 1;
  }

  /** The cell of the current slot that carries from one rank to another. */
  cell(from: number, to: number): Uint8Array {
    return this.#cells[this.#slot][from][to];
  }

  /** Tells the other ranks, from `arrive` on, what this one calls. */
  writeHead({ name, type, sends, receives }: Exchange): void {
    const head = this.#heads[this.#slot][this.rank];
    head[0] = EXCHANGE_NAMES.indexOf(name);
    head[1] = MOVABLE_TYPES.indexOf(type);
    for (let r = 0; r < this.size; r++) {
      head[2 + r] = sends[r].length;
      head[2 + this.size + r] = receives[r].length;
    }
  }

  /** What contradicts between the heads, the same sentence on every rank; null when they agree. */
  contradiction(): string | null {
    return contradictionOf(this.#heads[this.#slot]);
  }

  /** Number of cells that the longest part of the exchange fills, at least 1. */
  rounds(): number {
    let most = 1;
    for (const head of this.#heads[this.#slot]) {
      for (let r = 0; r < this.size; r++) most = Math.max(most, Math.ceil(head[2 + r] / this.cellBytes));
    }
    return most;
  }

  /** Says that this rank has filled its slot. */
  arrive(): void {
    this.#phase = (this.#phase + 1) | 0;
    Atomics.store(this.#words, RANKS + 2 * this.rank, this.#phase);
    this.#ring();
  }

  /** A rank that has not arrived where this one has; -1 when all have. Phases wrap, so their difference counts. */
  laggard(): number {
    for (let r = 0; r < this.size; r++) {
      if (((Atomics.load(this.#words, RANKS + 2 * r) - this.#phase) | 0) < 0) return r;
    }
    return -1;
  }

  /** Goes on to the other slot. The one after it is free by then: who arrives there has read all of this one. */
  turn(): void {
    this.#slot = 1 - this.#slot;
  }

  /** A number that changes with everything that `laggard` and `aborted` tell. */
  bell(): number {
    return Atomics.load(this.#words, BELL);
  }

  /** Blocks until the bell no longer has this value, at most `ms` milliseconds. */
  waitForBell(value: number, ms: number): void {
    Atomics.wait(this.#words, BELL, value, ms);
  }

  /** The same without blocking. */
  async bellRings(value: number, ms: number): Promise<void> {
    await Atomics.waitAsync(this.#words, BELL, value, ms).value;
  }

  /** Writes down that this rank aborts and why, unless another has. */
  abort(reason: string): void {
    if (Atomics.exchange(this.#words, CLAIMED, 1) !== 0) return;
    // A shared array can't be encoded into.
    const bytes = new Uint8Array(MOST_REASON_BYTES);
    const { written } = new TextEncoder().encodeInto(reason, bytes);
    this.#reason.set(bytes);
    this.#words[REASON_BYTES] = written;
    Atomics.store(this.#words, ABORTED, this.rank + 1);
    this.#ring();
  }

  /** Who has aborted and why. */
  aborted(): { rank: number; reason: string } | null {
    const by = Atomics.load(this.#words, ABORTED);
    if (by === 0) return null;
    const reason = new TextDecoder().decode(this.#reason.slice(0, this.#words[REASON_BYTES]));
    return { rank: by - 1, reason };
  }

  #ring(): void {
    Atomics.add(this.#words, BELL, 1);
    Atomics.notify(this.#words, BELL);
  }
}
