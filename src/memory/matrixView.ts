/**
 * An array that views share. Its owner may replace the array by a longer one (a workspace that grows, a store that
 * allocates after its layers are built); the views then see the new one.
 */
export class Space<A extends Float32Array | Int32Array> {
  constructor(public data: A) {}
}

/**
 * A matrix [rows,cols] in a space: row r begins at element at + r ld. A vector [n] is [n,1]. Views are made with a plan, so
 * that a warmed-up step makes none.
 */
class View<A extends Float32Array | Int32Array> {
  constructor(
    readonly space: Space<A>,
    /** Index in the space of the matrix's first element. */
    readonly at: number,
    readonly rows: number,
    readonly cols: number,
    /** Elements from one row to the next, >= cols. */
    readonly ld = cols,
  ) {}

  /** The whole array of the space; the matrix begins at element `at`. */
  get data(): A {
    return this.space.data;
  }

  /** Number of elements, rows cols. */
  get size(): number {
    return this.rows * this.cols;
  }

  /** A view of columns [start, start + count) of every row. */
  columns(start: number, count: number): View<A> {
    return new View(this.space, this.at + start, this.rows, count, this.ld);
  }

  /** A view of rows [start, start + count). */
  slice(start: number, count: number): View<A> {
    return new View(this.space, this.at + start * this.ld, count, this.cols, this.ld);
  }
}

export type MatrixView = View<Float32Array>;
export type IndexView = View<Int32Array>;

/** A whole array as a matrix [rows,cols]. */
export function matrixOf(data: Float32Array, rows: number, cols: number): MatrixView {
  return new View(new Space(data), 0, rows, cols);
}

/** A whole array as a vector [n]. */
export function indicesOf(data: Int32Array): IndexView {
  return new View(new Space(data), 0, data.length, 1);
}

/** A matrix [rows,cols] that begins at element `at` of a space. */
export function viewIn<A extends Float32Array | Int32Array>(
  space: Space<A>,
  at: number,
  rows: number,
  cols: number,
): View<A> {
  return new View(space, at, rows, cols);
}

/** A copy of the elements of a matrix whose rows are adjacent. */
export function elementsOf<A extends Float32Array | Int32Array>({ data, at, size }: View<A>): A {
  return data.slice(at, at + size) as A;
}
