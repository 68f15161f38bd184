import type { IndexView, MatrixView } from '../memory/matrixView';
import { viewIn } from '../memory/matrixView';
import { addRows, gatherRows } from '../memory/operations/mixture';
import { clear } from '../memory/operations/rows';
import type { ParameterStore } from '../memory/parameters';
import { Planner, Workspace } from '../memory/workspace';
import type { Lora } from './lora';
import type { LowRankAdapter } from './lowRankAdapter';
import { type ModelParts, projectionsOf } from './parts';
import type { Projection, RowAdapters, RowGroups } from './projection';

/** New tokens of one sequence, and the adapters that they are computed with. */
interface AdaptedRow {
  readonly adapter?: Lora | null | undefined;
}

/** Neighbouring rows of a step that have the same adapters. */
interface Segment {
  lora: Lora;
  first: number;
  rows: number;
}

/**
 * The adapters of a step's rows. The weights' product is one for all rows; each segment adds the low-rank products of its own:
 * y_i += s (x_i A^T) B^T for the rows i of a segment. The rows of an expert belong to several segments: those of one are gathered,
 * multiplied by groups, and added back.
 */
export class AdapterMix implements RowAdapters {
  /** Reused from step to step; the first `#used` count. */
  readonly #segments: Segment[] = [];
  #used = 0;
  /** Rows of the step, with an adapter or without. */
  #rows = 0;
  #projections: readonly Projection[] = [];
  readonly #memory: Workspace;
  /** The memory that a token needs, by adapters. */
  readonly #needs = new WeakMap<Lora, Need>();

  constructor(
    private readonly parts: Pick<ModelParts, 'config' | 'embedding' | 'blocks' | 'lmHead'>,
    private readonly store: Pick<ParameterStore, 'kernels'>,
  ) {
    this.#memory = new Workspace(store.kernels);
  }

  /**
   * Makes the projections use the rows' adapters until `end`; without any adapter it does nothing. Row i of the step's matrices is
   * token i of the rows in their order, of which `countOf` says how many each has.
   * @throws SgemoeError SGEMOE_MEMORY
   */
  begin<R extends AdaptedRow>(rows: readonly R[], countOf: (row: R) => number): void {
    this.#used = 0;
    this.#rows = 0;
    for (let i = 0; i < rows.length; i++) {
      const count = countOf(rows[i]);
      const lora = rows[i].adapter ?? null;
      if (lora !== null && count > 0) this.#add(lora, count);
      this.#rows += count;
    }
    if (this.#used === 0) return;
    this.#makeRoom();
    this.#setAll(this);
  }

  end(): void {
    if (this.#used > 0) this.#setAll(null);
    this.#used = 0;
  }

  #setAll(adapters: RowAdapters | null): void {
    if (this.#projections.length === 0) this.#projections = projectionsOf(this.parts);
    for (const projection of this.#projections) projection.rowAdapters = adapters;
    this.parts.embedding.rowAdapters = adapters;
  }

  #add(lora: Lora, rows: number): void {
    const first = this.#rows;
    const last = this.#used > 0 ? this.#segments[this.#used - 1] : null;
    if (last?.lora === lora && last.first + last.rows === first) {
      last.rows += rows;
      return;
    }
    const segment = this.#segments[this.#used];
    if (segment === undefined) this.#segments.push({ lora, first, rows });
    else Object.assign(segment, { lora, first, rows });
    this.#used++;
  }

  #makeRoom(): void {
    let [floats, ints] = [0, 0];
    for (let i = 0; i < this.#used; i++) {
      const { lora, rows } = this.#segments[i];
      const need = this.#needOf(lora);
      floats = Math.max(floats, rows * need.floats);
      ints = Math.max(ints, rows * need.ints);
    }
    const { floatSpace, intSpace } = this.#memory;
    const starts = this.parts.config.nExperts + 1;
    if (floatSpace.data.length >= floats && intSpace.data.length >= starts + ints) return;
    const planner = new Planner();
    planner.floats(floats);
    planner.ints(starts + ints);
    this.#memory.ensure(planner);
  }

  #needOf(lora: Lora): Need {
    const known = this.#needs.get(lora);
    if (known !== undefined) return known;
    const { topKExperts: K } = this.parts.config;
    const floats = lora.adapters.map(({ a, b }) => (a.count > 1 ? K * (a.cols + a.rows + b.rows) : a.rows));
    const need = { floats: Math.max(...floats, lora.options.rank), ints: K };
    this.#needs.set(lora, need);
    return need;
  }

  addAt(projection: Projection, x: MatrixView, y: MatrixView, alpha: number, groups: RowGroups | null): void {
    for (let i = 0; i < this.#used; i++) {
      const segment = this.#segments[i];
      const adapters = segment.lora.partsOf(projection);
      const isAll = segment.rows === this.#rows;
      for (let p = 0; p < adapters.length; p++) {
        const adapter = adapters[p];
        if (adapter === null) continue;
        if (groups !== null && !isAll) this.#addGathered(adapter, segment, x, y, alpha, groups);
        else this.#addRows(adapter, segment, x, y, alpha, groups);
      }
    }
  }

  addEmbeddedAt(ids: IndexView, y: MatrixView): void {
    for (let i = 0; i < this.#used; i++) {
      const { lora, first, rows } = this.#segments[i];
      if (lora.embedding === null) continue;
      const u = viewIn(this.#memory.floatSpace, 0, rows, lora.embedding.a.cols);
      lora.embedding.forwardAt(ids.slice(first, rows), u, y.slice(first, rows));
    }
  }

  /** Where the segment's rows lie together: tokens, or all rows of all experts. */
  #addRows(
    adapter: LowRankAdapter,
    { first, rows }: Segment,
    x: MatrixView,
    y: MatrixView,
    alpha: number,
    groups: RowGroups | null,
  ): void {
    const count = groups === null ? rows : x.rows;
    const u = viewIn(this.#memory.floatSpace, 0, count, adapter.a.rows);
    const from = groups === null ? first : 0;
    const [input, out] = [x.slice(from, count), y.slice(from, count)];
    adapter.forwardAt({ u, kept: null }, input, out, alpha, groups?.rowStarts ?? null);
  }

  /** For rows sorted by expert, some of which are of the segment's tokens. */
  #addGathered(
    adapter: LowRankAdapter,
    segment: Segment,
    x: MatrixView,
    y: MatrixView,
    alpha: number,
    groups: RowGroups,
  ): void {
    const { kernels } = this.store;
    const { floatSpace, intSpace } = this.#memory;
    const { a, b } = adapter;
    const starts = viewIn(intSpace, 0, a.count + 1, 1);
    const count = listRows(segment, groups, starts);
    const rows = viewIn(intSpace, a.count + 1, count, 1);
    const input = viewIn(floatSpace, 0, count, a.cols);
    const u = viewIn(floatSpace, input.size, count, a.rows);
    const out = viewIn(floatSpace, input.size + u.size, count, b.rows);
    gatherRows(kernels, x, rows, input);
    clear(out);
    adapter.forwardAt({ u, kept: null }, input, out, alpha, starts);
    addRows(kernels, out, rows, y);
  }
}

/** Numbers of scratch for each token of a segment. */
interface Need {
  readonly floats: number;
  readonly ints: number;
}

/** Lists the segment's rows behind `starts`, whose groups they are counted into; returns how many. */
function listRows(
  { first, rows }: Segment,
  { rowStarts, slotToToken }: RowGroups,
  { data, at, rows: ends }: IndexView,
): number {
  const [from, tokens] = [rowStarts.data, slotToToken.data];
  const list = at + ends;
  let count = 0;
  for (let e = 0; e + 1 < ends; e++) {
    data[at + e] = count;
    for (let row = from[rowStarts.at + e]; row < from[rowStarts.at + e + 1]; row++) {
      const token = tokens[slotToToken.at + row];
      if (token >= first && token < first + rows) data[list + count++] = row;
    }
  }
  data[at + ends - 1] = count;
  return count;
}
