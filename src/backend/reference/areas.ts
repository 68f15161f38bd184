/**
 * Checks of lengths and overlaps, from the elements that a kernel reads and writes. A kernel names the areas of all its
 * arrays with `reads` and `writes`, then calls `requireApart`.
 */

/**
 * `count` matrices [rows, cols] from element `first` on, with rows `ld` apart and matrices `stride` apart. They end before
 * element `end`, which is 0 without elements.
 */
export interface Area {
  readonly rows: number;
  readonly cols: number;
  readonly ld: number;
  readonly count: number;
  readonly stride: number;
  readonly first: number;
  readonly end: number;
}

/** Number of elements from the first to the last of a matrix [rows, cols] whose rows are `ld` apart. */
export function extent(rows: number, cols: number, ld: number): number {
  return rows === 0 || cols === 0 ? 0 : (rows - 1) * ld + cols;
}

export function matrix(rows: number, cols: number, ld: number): Area {
  return { rows, cols, ld, count: 1, stride: 0, first: 0, end: extent(rows, cols, ld) };
}

export function repeated(count: number, one: Area, stride: number): Area {
  const end = count === 0 || one.end === 0 ? 0 : (count - 1) * stride + one.end;
  return { ...one, count, stride, end };
}

type Array = Float32Array | Int32Array | Uint8Array;

/** An area in memory: bytes [begin, end) of `buffer`, elements of `bytes` each. */
interface Use {
  readonly name: string;
  readonly buffer: ArrayBufferLike;
  readonly begin: number;
  readonly end: number;
  readonly bytes: number;
  readonly area: Area;
  readonly written: boolean;
}

/** The areas of the running call; one list is enough, since kernels neither nest nor wait. */
const uses: Use[] = [];

/** Clears the list before a kernel runs. */
export function forgetUses(): void {
  uses.length = 0;
}

/** Checks that `array` has this area (or number of elements) from `offset`, which the kernel reads. */
export function reads(kernel: string, name: string, array: Array, offset: number, area: Area | number): void {
  use(kernel, name, array, offset, area, false);
}

/** Checks the same for an array that the kernel writes. */
export function writes(
  kernel: string,
  name: string,
  array: Array,
  offset: number,
  area: Area | number,
): void {
  use(kernel, name, array, offset, area, true);
}

function use(
  kernel: string,
  name: string,
  array: Array,
  offset: number,
  what: Area | number,
  written: boolean,
): void {
  const area = typeof what === 'number' ? matrix(1, what, what) : what;
  if (area.end > array.length - offset) {
    throw new RangeError(
      `${kernel}: ${name} is too short: needs ${area.end} elements from offset ${offset}, has ${array.length}`,
    );
  }
  if (area.end === 0) return;
  const { buffer, BYTES_PER_ELEMENT: bytes } = array;
  const start = array.byteOffset + offset * bytes;
  uses.push({
    name,
    buffer,
    begin: start + area.first * bytes,
    end: start + area.end * bytes,
    bytes,
    area,
    written,
  });
}

/**
 * Checks last that the areas that the kernel writes overlap no other. The output `inPlace` may be the input `of`, element by
 * element.
 */
export function requireApart(kernel: string, inPlace?: string, of?: string): void {
  for (const written of uses) {
    if (!written.written) continue;
    for (const other of uses) {
      if (other === written || other.buffer !== written.buffer) continue;
      if (written.begin >= other.end || other.begin >= written.end) continue;
      const mayCoincide = written.name === inPlace && other.name === of;
      if (mayCoincide && coincide(written, other)) continue;
      if (interleave(written, other)) continue;
      throw new RangeError(`${kernel}: ${written.name} must not overlap ${other.name}`);
    }
  }
}

function coincide(a: Use, b: Use): boolean {
  return a.begin === b.begin && (a.area.rows <= 1 || a.area.ld === b.area.ld);
}

/**
 * Whether two areas lie in each other's gaps, as the q, k and v of one matrix do. They must have separate places in a common
 * period; areas that merely happen to miss each other don't count.
 */
function interleave(a: Use, b: Use): boolean {
  if (b.begin < a.begin) return interleave(b, a);
  const p = patternOf(a),
    q = patternOf(b);
  const period = greatestDivisor(p.period, q.period);
  if (period === 0) return false;
  const at = (b.begin - a.begin) % period;
  return p.width <= at && at + q.width <= period;
}

/**
 * An area as a run of `width` bytes that repeats every `period` bytes; a period of 0 means that it doesn't repeat. Rows or
 * matrices that follow each other without a gap are one longer run.
 */
function patternOf({ area, bytes }: Use): { width: number; period: number } {
  const levels = [
    [area.ld, area.rows],
    [area.stride, area.count],
  ].sort(([a], [b]) => a - b);
  let width = area.cols,
    period = 0;
  for (const [stride, count] of levels) {
    if (count <= 1) continue;
    if (stride <= width) width += (count - 1) * stride;
    else period = greatestDivisor(period, stride);
  }
  return { width: width * bytes, period: period * bytes };
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}

/** Checks that no two matrices of an area, which are `strideName` apart, share an element. */
export function requireDistinct(kernel: string, strideName: string, area: Area): void {
  const { rows, cols, ld, count, stride } = area;
  const one = extent(rows, cols, ld);
  for (let i = 1; i < count && i * stride < one; i++) {
    const down = Math.floor((i * stride) / ld),
      right = (i * stride) % ld;
    if ((down < rows && right < cols) || (down + 1 < rows && ld - right < cols)) {
      throw new RangeError(`${kernel}: ${strideName} must keep the matrices apart, got ${stride}`);
    }
  }
}
