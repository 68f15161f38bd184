import {
  addTree,
  afterTransfer,
  type Collectives,
  type MovableArray,
  type SharedRank,
  type Transfer,
} from '../collectives';
import { arrayType, requireInteger, wrongType } from '../reference/checks';

/** Functions of `Collectives` that move something or wait, in the order of their numbers in messages between ranks. */
export const EXCHANGE_NAMES = [
  'reduceScatter',
  'allGather',
  'allToAll',
  'sumDoubles',
  'broadcast',
  'barrier',
  'close',
] as const;

/** Names of the arrays' types, in the order of their numbers in messages between ranks. */
export const MOVABLE_TYPES = [
  'Float32Array',
  'Float64Array',
  'Int32Array',
  'Uint16Array',
  'Uint8Array',
] as const;

export type ExchangeName = (typeof EXCHANGE_NAMES)[number];
export type MovableType = (typeof MOVABLE_TYPES)[number];

/**
 * A checked call as what all of them are: this rank sends `sends[r]` to each rank r and gets `receives[r]`, the bytes of
 * elements of `type`. Where the parts are `summed`, all entries of `receives` are the one array for the sum.
 */
export interface Exchange {
  readonly name: ExchangeName;
  readonly type: MovableType;
  readonly sends: readonly Uint8Array[];
  readonly receives: readonly Uint8Array[];
  readonly summed: boolean;
}

/** What contradicts between the heads of all ranks: their calls and the bytes that each sends and expects. */
export function contradictionOf(heads: readonly ArrayLike<number>[]): string | null {
  const size = heads.length;
  const describe = (r: number) => `${EXCHANGE_NAMES[heads[r][0]]} of ${MOVABLE_TYPES[heads[r][1]]}`;
  for (let r = 1; r < size; r++) {
    if (describe(r) !== describe(0)) {
      return `Rank 0 calls ${describe(0)}, rank ${r} calls ${describe(r)}.`;
    }
  }
  for (let from = 0; from < size; from++) {
    for (let to = 0; to < size; to++) {
      const [sent, expected] = [heads[from][2 + to], heads[to][2 + size + from]];
      if (sent !== expected) {
        const name = EXCHANGE_NAMES[heads[0][0]];
        return `${name}: rank ${from} sends ${sent} bytes to rank ${to}, which expects ${expected}.`;
      }
    }
  }
  return null;
}

const EMPTY = new Uint8Array(0);

/** Checks the calls; what is left to a subclass is to carry out an exchange. */
export abstract class CheckedCollectives implements Collectives {
  readonly rank: number;
  readonly size: number;
  #isClosing = false;

  constructor(rank: number, size: number) {
    this.rank = rank;
    this.size = size;
  }

  protected abstract post(exchange: Exchange): Transfer;

  abstract abort(reason: string): void;

  abstract share(): SharedRank;

  reduceScatter(
    x: Float32Array,
    xAt: number,
    counts: ArrayLike<number>,
    out: Float32Array,
    outAt: number,
  ): Transfer {
    const name = 'reduceScatter';
    this.#requireOpen(name);
    requireType(name, 'x', x, ['Float32Array']);
    requireType(name, 'out', out, ['Float32Array']);
    const sends = partsOf(name, 'x', x, xAt, 'counts', counts, this.size);
    const sum = partOf(name, 'out', out, outAt, counts[this.rank]);
    for (const [r, part] of sends.entries()) {
      const isInPlace = r === this.rank && part.byteOffset === sum.byteOffset;
      if (!isInPlace) requireApart(name, 'out', sum, 'x', part);
    }
    return this.post({ name, type: 'Float32Array', sends, receives: this.#each(sum), summed: true });
  }

  allGather(x: MovableArray, xAt: number, counts: ArrayLike<number>): Transfer {
    const name = 'allGather';
    this.#requireOpen(name);
    const type = requireType(name, 'x', x, MOVABLE_TYPES);
    const parts = partsOf(name, 'x', x, xAt, 'counts', counts, this.size);
    const sends = parts.map((_, r) => (r === this.rank ? EMPTY : parts[this.rank]));
    const receives = parts.map((part, r) => (r === this.rank ? EMPTY : part));
    return this.post({ name, type, sends, receives, summed: false });
  }

  allToAll(
    send: MovableArray,
    sendAt: number,
    sendCounts: ArrayLike<number>,
    receive: MovableArray,
    receiveAt: number,
    receiveCounts: ArrayLike<number>,
  ): Transfer {
    const name = 'allToAll';
    this.#requireOpen(name);
    const type = requireType(name, 'send', send, MOVABLE_TYPES);
    requireType(name, 'receive', receive, [type]);
    const sends = partsOf(name, 'send', send, sendAt, 'sendCounts', sendCounts, this.size);
    const receives = partsOf(name, 'receive', receive, receiveAt, 'receiveCounts', receiveCounts, this.size);
    requireApart(name, 'receive', joined(receives), 'send', joined(sends));
    if (sendCounts[this.rank] !== receiveCounts[this.rank]) {
      const counts = `${sendCounts[this.rank]} and ${receiveCounts[this.rank]}`;
      throw new RangeError(
        `${name}: sendCounts and receiveCounts must agree on rank ${this.rank} itself, got ${counts}`,
      );
    }
    return this.post({ name, type, sends, receives, summed: false });
  }

  sumDoubles(x: Float64Array, xAt: number, count: number): Transfer {
    const name = 'sumDoubles';
    this.#requireOpen(name);
    const type = requireType(name, 'x', x, ['Float64Array']);
    const part = partOf(name, 'x', x, xAt, requireCount(name, 'count', count));
    return this.post({ name, type, sends: this.#each(part), receives: this.#each(part), summed: true });
  }

  broadcast(x: MovableArray, xAt: number, count: number, root: number): Transfer {
    const name = 'broadcast';
    this.#requireOpen(name);
    const type = requireType(name, 'x', x, MOVABLE_TYPES);
    const part = partOf(name, 'x', x, xAt, requireCount(name, 'count', count));
    if (typeof root !== 'number') throw wrongType(name, 'root', 'a number', root);
    requireInteger(name, 'root', root, 0, this.size);
    const isRoot = root === this.rank;
    const sends = this.#each(part).map((each, r) => (isRoot && r !== root ? each : EMPTY));
    const receives = this.#each(part).map((each, r) => (!isRoot && r === root ? each : EMPTY));
    return this.post({ name, type, sends, receives, summed: false });
  }

  barrier(): Transfer {
    this.#requireOpen('barrier');
    return this.#postEmpty('barrier');
  }

  subset(members: readonly number[]): Collectives {
    return new Subset(this.rank, this.size, members, {
      post: (exchange) => this.post(exchange),
      abort: (reason) => this.abort(reason),
    });
  }

  close(): Transfer {
    this.#requireOpen('close');
    this.#isClosing = true;
    return this.#postEmpty('close');
  }

  #postEmpty(name: ExchangeName): Transfer {
    const parts = this.#each(EMPTY);
    return this.post({ name, type: 'Uint8Array', sends: parts, receives: parts, summed: false });
  }

  #each(part: Uint8Array): Uint8Array[] {
    return Array.from({ length: this.size }, () => part);
  }

  #requireOpen(name: string): void {
    if (this.#isClosing) throw new TypeError(`${name}: called after close`);
  }
}

/** What a subset has done by the whole. */
interface Whole {
  post(exchange: Exchange): Transfer;
  abort(reason: string): void;
}

/** Some of the ranks: to the others nothing is sent, and nothing comes from them. */
class Subset extends CheckedCollectives {
  constructor(
    rank: number,
    private readonly wholeSize: number,
    private readonly members: readonly number[],
    private readonly whole: Whole,
  ) {
    checkMembers(members, rank, wholeSize);
    super(members.indexOf(rank), members.length);
  }

  override abort(reason: string): void {
    this.whole.abort(reason);
  }

  override close(): Transfer {
    throw new TypeError('close: a subset of the ranks ends with the whole');
  }

  override share(): SharedRank {
    throw new TypeError('share: a subset of the ranks can not be shared; share the whole');
  }

  protected override post({ sends, receives, ...call }: Exchange): Transfer {
    if (call.summed) return this.#sum({ sends, receives, ...call });
    return this.whole.post({ ...call, sends: this.#ofAll(sends), receives: this.#ofAll(receives) });
  }

  /** Gets the members' parts and sums them here, since the whole would sum those of all ranks. */
  #sum({ sends, receives, ...call }: Exchange): Transfer {
    const [sum] = receives;
    const addends = this.members.map(() => new Uint8Array(sum.length));
    const exchange = { ...call, sends: this.#ofAll(sends), receives: this.#ofAll(addends), summed: false };
    return afterTransfer(this.whole.post(exchange), () => addInto(sum, addends, call.type));
  }

  #ofAll(parts: readonly Uint8Array[]): Uint8Array[] {
    const all: Uint8Array[] = new Array(this.wholeSize).fill(EMPTY);
    for (const [i, part] of parts.entries()) all[this.members[i]] = part;
    return all;
  }
}

function addInto(sum: Uint8Array, addends: readonly Uint8Array[], type: MovableType): void {
  if (type === 'Float64Array') {
    addTree(
      addends.map(({ buffer }) => new Float64Array(buffer)),
      sum.length / Float64Array.BYTES_PER_ELEMENT,
    );
  } else {
    addTree(
      addends.map(({ buffer }) => new Float32Array(buffer)),
      sum.length / Float32Array.BYTES_PER_ELEMENT,
    );
  }
  sum.set(addends[0]);
}

function checkMembers(members: readonly number[], rank: number, size: number): void {
  if (!Array.isArray(members)) throw wrongType('subset', 'members', 'an array', members);
  for (const [i, member] of members.entries()) {
    requireInteger('subset', `members[${i}]`, member, i === 0 ? 0 : members[i - 1] + 1, size);
  }
  if (members.includes(rank)) return;
  throw new RangeError(`subset: members must have rank ${rank} among them, got ${members.join(', ')}`);
}

/** Checks that `x` is an array of one of these types, and returns which. */
function requireType(
  call: string,
  name: string,
  x: MovableArray,
  types: readonly MovableType[],
): MovableType {
  const type = types.find((known) => known === arrayType(x));
  if (type === undefined) throw wrongType(call, name, `a ${types.join(' or ')}`, x);
  return type;
}

function requireCount(call: string, name: string, value: number): number {
  if (typeof value !== 'number') throw wrongType(call, name, 'a number', value);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`${call}: ${name} must be an integer >= 0, got ${value}`);
  }
  return value;
}

/** The bytes of `count` elements from `at` on. */
function partOf(call: string, name: string, x: MovableArray, at: number, count: number): Uint8Array {
  requireCount(call, `${name}At`, at);
  if (count > x.length - at) {
    throw new RangeError(
      `${call}: ${name} is too short: needs ${count} elements from offset ${at}, has ${x.length}`,
    );
  }
  const bytes = x.BYTES_PER_ELEMENT;
  return new Uint8Array(x.buffer, x.byteOffset + at * bytes, count * bytes);
}

/** The bytes of each rank's part. */
function partsOf(
  call: string,
  name: string,
  x: MovableArray,
  at: number,
  countsName: string,
  counts: ArrayLike<number>,
  size: number,
): Uint8Array[] {
  if (typeof counts !== 'object' || counts === null) throw wrongType(call, countsName, 'an array', counts);
  if (counts.length !== size) {
    throw new RangeError(
      `${call}: ${countsName} must have a count for each of ${size} ranks, has ${counts.length}`,
    );
  }
  let end = requireCount(call, `${name}At`, at);
  return Array.from({ length: size }, (_, r) => {
    const count = requireCount(call, `${countsName}[${r}]`, counts[r]);
    const part = partOf(call, name, x, end, count);
    end += count;
    return part;
  });
}

/** All bytes of parts that lie one after another. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  return new Uint8Array(parts[0].buffer, parts[0].byteOffset, bytes);
}

function requireApart(call: string, name: string, a: Uint8Array, otherName: string, b: Uint8Array): void {
  if (a.buffer !== b.buffer || a.length === 0 || b.length === 0) return;
  if (a.byteOffset >= b.byteOffset + b.length || b.byteOffset >= a.byteOffset + a.length) return;
  throw new RangeError(`${call}: ${name} must not overlap ${otherName}`);
}
