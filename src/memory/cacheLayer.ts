import type { Kernels } from '../backend/kernels';
import { type KvCacheDtype, storedBytes } from '../base/storageTypes';
import type { IndexView, MatrixView, Space } from './matrixView';
import {
  type AttentionRun,
  type AttentionViews,
  attention,
  attentionStored,
  type StoredRows,
  storeRows,
} from './operations/attention';
import type { Planner } from './workspace';

/** The keys and values of a layer, a row for each token: row s contextLength + p belongs to token p of slot s. */
export interface CacheLayer {
  /** Keeps the keys and values [T, nKvHeads D] of a run at the positions [T] of its tokens. */
  append(kernels: Kernels, run: AttentionRun, positions: IndexView, k: MatrixView, v: MatrixView): void;
  /** Lets the queries of a run attend to its slots. */
  attend(kernels: Kernels, views: AttentionViews, scale: number, run: AttentionRun): void;
  /** Copies rows [from, from + rows) to row `to`. */
  copyRows(from: number, to: number, rows: number): void;
}

/** Reserves the layers of a cache. @param rows slots contextLength. @param cols nKvHeads D. */
export function planCacheLayers(
  planner: Planner,
  dtype: KvCacheDtype,
  nLayers: number,
  rows: number,
  cols: number,
  bytesPerFloat: number,
): CacheLayer[] {
  const layers = Array.from({ length: nLayers }, (_, layer) => layer);
  if (dtype === 'float32') {
    const all = planner.floats(2 * nLayers * rows, cols);
    return layers.map(
      (i) => new FloatLayer(all.slice(2 * i * rows, rows), all.slice((2 * i + 1) * rows, rows)),
    );
  }
  const rowBytes = storedBytes(dtype, cols);
  const { at, space } = planner.floats(Math.ceil((2 * nLayers * rows * rowBytes) / bytesPerFloat));
  const bytes = (index: number) =>
    new ByteRows(dtype, space, at * bytesPerFloat + index * rows * rowBytes, rows, rowBytes);
  return layers.map((i) => new StoredLayer(bytes(2 * i), bytes(2 * i + 1)));
}

/** The first row of a run's sequence number i. */
function firstRow(
  { kvRow, kvRows, token, newTokens }: AttentionRun,
  positions: IndexView,
  i: number,
): number {
  return kvRow + i * kvRows + positions.data[positions.at + token + i * newTokens];
}

/** Keys and values as the kernels' floats. */
class FloatLayer implements CacheLayer {
  constructor(
    readonly k: MatrixView,
    readonly v: MatrixView,
  ) {}

  append(_: Kernels, run: AttentionRun, positions: IndexView, k: MatrixView, v: MatrixView): void {
    for (let i = 0; i < run.sequences; i++) {
      const row = firstRow(run, positions, i);
      for (let j = 0; j < run.newTokens; j++) {
        const t = run.token + i * run.newTokens + j;
        copyRow(k, t, this.k, row + j);
        copyRow(v, t, this.v, row + j);
      }
    }
  }

  attend(kernels: Kernels, views: AttentionViews, scale: number, run: AttentionRun): void {
    attention(kernels, views, scale, run, this);
  }

  copyRows(from: number, to: number, rows: number): void {
    for (const { data, at, ld } of [this.k, this.v]) {
      data.copyWithin(at + to * ld, at + from * ld, at + (from + rows) * ld);
    }
  }
}

/** Copies a row to a matrix of the same space. */
function copyRow(from: MatrixView, row: number, to: MatrixView, toRow: number): void {
  const source = from.at + row * from.ld;
  from.data.copyWithin(to.at + toRow * to.ld, source, source + from.cols);
}

/** Keys and values in a storage type. */
class StoredLayer implements CacheLayer {
  constructor(
    private readonly k: ByteRows,
    private readonly v: ByteRows,
  ) {}

  append(kernels: Kernels, run: AttentionRun, positions: IndexView, k: MatrixView, v: MatrixView): void {
    for (let i = 0; i < run.sequences; i++) {
      const row = firstRow(run, positions, i);
      const token = run.token + i * run.newTokens;
      storeRows(kernels, k, token, run.newTokens, this.k, row);
      storeRows(kernels, v, token, run.newTokens, this.v, row);
    }
  }

  attend(kernels: Kernels, views: AttentionViews, scale: number, run: AttentionRun): void {
    attentionStored(kernels, views, scale, run, this.k, this.v);
  }

  copyRows(from: number, to: number, rows: number): void {
    for (const { data, rowBytes } of [this.k, this.v]) {
      data.copyWithin(to * rowBytes, from * rowBytes, (from + rows) * rowBytes);
    }
  }
}

/** Rows of bytes within a space of floats, whose array may be replaced. */
class ByteRows implements StoredRows {
  #of: Float32Array | null = null;
  #data: Uint8Array = new Uint8Array(0);

  constructor(
    readonly type: KvCacheDtype,
    private readonly space: Space<Float32Array>,
    /** Of the space's first float to the first row. */
    private readonly offsetBytes: number,
    private readonly rows: number,
    readonly rowBytes: number,
  ) {}

  get data(): Uint8Array {
    const floats = this.space.data;
    if (this.#of !== floats) {
      this.#of = floats;
      this.#data = new Uint8Array(
        floats.buffer,
        floats.byteOffset + this.offsetBytes,
        this.rows * this.rowBytes,
      );
    }
    return this.#data;
  }
}
