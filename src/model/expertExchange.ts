import type { Collectives } from '../backend/collectives';
import type { Kernels } from '../backend/kernels';
import { checkInteger } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { type IndexView, type MatrixView, viewIn } from '../memory/matrixView';
import { gatherRows } from '../memory/operations/mixture';
import type { ParameterStore } from '../memory/parameters';
import { Planner, Workspace } from '../memory/workspace';
import { type ExpertRange, Experts, type ExpertsDims, type ExpertsSlots, type RowExperts } from './experts';

/** Ranks over which the experts of each layer are divided. */
export interface ExpertRanks {
  /** What connects them. While a model uses them, nothing else may. */
  readonly collectives: Collectives;
  /** The number of experts of each rank, 0 or more, which add up to the model's. Default: as even as can be. */
  readonly counts?: readonly number[] | undefined;
}

/** What a rank says at the begin of an exchange: the number of the layer that it computes, or one of these. */
const FOLLOWS = -1;
const WAITS = -2;
const ENDS = -3;

/** Milliseconds between two words that say to go on waiting: far below any time limit that makes sense. */
const WAIT_MS = 500;

/** What the ranks agree on: the number of a layer; 'wait' to go on waiting for one; 'end'. */
type Agreed = number | 'wait' | 'end';

/** The exchange of a layer's rows: its memory is the exchange's workspace. */
interface ExchangeSlots {
  /** Rows that came, R of them. */
  readonly rows: number;
  /** [count+1] rows of each expert of this rank. */
  readonly rowStarts: IndexView;
  /** [R,H] rows as they came: rank by rank, each rank's by expert. */
  readonly received: MatrixView;
  /** [R,H] the same by expert, those of an expert rank by rank. */
  readonly sorted: MatrixView;
  /** [R,H] outputs, by expert. */
  readonly outputs: MatrixView;
  /** [R] place among the received of each sorted row, and the other way round. */
  readonly order: IndexView;
  readonly places: IndexView;
  readonly experts: ExpertsSlots;
}

/** The experts of a layer of which this rank has a part: rows go to their owners and come back computed. */
class DividedExperts implements RowExperts<null, null> {
  /** Adapters would need the token of each row, which stays with its rank. */
  readonly projections = [];

  constructor(
    private readonly exchange: ExpertExchange,
    private readonly layer: number,
  ) {}

  plan({ precision }: Planner): null {
    if (precision === 'float32') return null;
    throw new TypeError(
      `precision must be 'float32' where experts are divided over ranks, got '${precision}'`,
    );
  }

  planBackward(): null {
    throw new TypeError('a model whose experts are divided over ranks has no backward');
  }

  forwardAt(_: null, { rowStarts }: { rowStarts: IndexView }, x: MatrixView, y: MatrixView): void {
    this.exchange.forward(this.layer, rowStarts, x, y);
  }

  backwardAt(): void {
    this.planBackward();
  }
}

/**
 * Has the experts of a model's mixtures computed by the ranks that have them. Rank r has experts
 * starts[r] .. starts[r+1] of each layer. Each rank sends its rows, sorted by expert, to the experts' owners; an owner computes
 * those of an expert rank by rank, in the order in which each sent them, and sends the outputs back. So a row's output is that of
 * one process, where the kernels' sums don't depend on the number of rows.
 *
 * Ranks compute the same layers at the same time, or answer (`answerAll`) those that another one computes: a rank without tokens needs
 * nothing but its experts.
 */
export class ExpertExchange {
  readonly ranks: Collectives;
  /** [size+1] */
  readonly starts: readonly number[];
  /** This rank's experts. */
  readonly own: ExpertRange;
  readonly #kernels: Kernels;
  readonly #layers: Experts[] = [];
  #width = 0;
  /** Has the experts. */
  #store: ParameterStore | null = null;
  readonly #memory: Workspace;
  /** Reused while exchanges have as many rows. */
  #slots: ExchangeSlots | null = null;
  /** For each rank what is said to it: a word, followed by the rows of each of its experts; and what it said. */
  readonly #said: Int32Array;
  readonly #heard: Int32Array;
  readonly #saidCounts: readonly number[];
  readonly #heardCounts: readonly number[];
  /** Elements of the rows that go to each rank, and that come from it. */
  readonly #sent: number[];
  readonly #came: number[];

  /** @throws TypeError or RangeError for a model without experts, or counts that aren't `nExperts` in sum. */
  constructor(kernels: Kernels, nExperts: number, { collectives, counts }: ExpertRanks) {
    this.ranks = collectives;
    const { rank, size } = collectives;
    this.starts = startsOf(nExperts, size, counts);
    const { starts } = this;
    this.own = { first: starts[rank], count: starts[rank + 1] - starts[rank] };
    this.#kernels = kernels;
    this.#memory = new Workspace(kernels);
    this.#saidCounts = Array.from({ length: size }, (_, r) => 1 + starts[r + 1] - starts[r]);
    this.#heardCounts = new Array(size).fill(1 + this.own.count);
    this.#said = new Int32Array(size + nExperts);
    this.#heard = new Int32Array(size * (1 + this.own.count));
    this.#sent = new Array(size).fill(0);
    this.#came = new Array(size).fill(0);
  }

  /** The number of experts of each rank. */
  get counts(): number[] {
    return this.#saidCounts.map((words) => words - 1);
  }

  /** Makes this rank's experts of the next layer. */
  addExperts(store: ParameterStore, prefix: string, dims: ExpertsDims, scale: number): void {
    this.#layers.push(new Experts(store, prefix, dims, scale, this.own));
    this.#width = dims.hiddenDim;
    this.#store = store;
    store.isPart = true;
  }

  /** Makes this rank's experts of the next layer, for a model that sends its rows to all. */
  addLayer(store: ParameterStore, prefix: string, dims: ExpertsDims, scale: number): RowExperts {
    this.addExperts(store, prefix, dims, scale);
    return new DividedExperts(this, this.#layers.length - 1);
  }

  /**
   * y [T*K,H] = the outputs of a layer's experts for the rows x [T*K,H] of this rank; expert e has rows
   * rowStarts[e] .. rowStarts[e+1]. @throws SgemoeError as `Collectives`.
   */
  forward(layer: number, rowStarts: IndexView, x: MatrixView, y: MatrixView): void {
    this.#agree(layer, rowStarts);
    this.#compute(layer, x, y);
  }

  /** Answers what the other ranks compute, until they end. @throws SgemoeError as `Collectives`. */
  answerAll(): void {
    const none = viewIn(this.#memory.floatSpace, 0, 0, this.#width);
    for (;;) {
      const agreed = this.#agree(FOLLOWS, null);
      if (agreed === 'end') return;
      if (agreed !== 'wait') this.#compute(agreed, none, none);
    }
  }

  /** Tells ranks that answer to go on waiting, before they give up this one. @throws SgemoeError as `Collectives`. */
  tellWaiting(): void {
    this.#agree(WAITS, null);
  }

  /** Calls `tellWaiting` now and then, whenever the event loop turns; returns what stops it. An error stops it, and is given to `onError`. */
  keepWaiting(onError: (error: unknown) => void): () => void {
    const timer = setInterval(() => {
      try {
        this.tellWaiting();
      } catch (error) {
        clearInterval(timer);
        onError(error);
      }
    }, WAIT_MS);
    timer.unref();
    return () => clearInterval(timer);
  }

  /** Lets ranks that answer go. @throws SgemoeError as `Collectives`. */
  end(): void {
    this.#agree(ENDS, null);
  }

  /** Tells every rank this one's word and its rows for that rank's experts. */
  #agree(word: number, rowStarts: IndexView | null): Agreed {
    this.#say(word, rowStarts);
    const [said, heard] = [this.#said, this.#heard];
    this.ranks.allToAll(said, 0, this.#saidCounts, heard, 0, this.#heardCounts).wait();
    const stride = 1 + this.own.count;
    let agreed = FOLLOWS;
    for (let r = 0; r < this.ranks.size; r++) {
      const other = heard[r * stride];
      if (agreed === FOLLOWS) agreed = other;
      else if (other !== FOLLOWS && other !== agreed) throw disagree(agreed, r, other);
    }
    return agreed === WAITS ? 'wait' : agreed === ENDS ? 'end' : agreed;
  }

  #say(word: number, rowStarts: IndexView | null): void {
    const { starts } = this;
    let at = 0;
    for (let r = 0; r < this.ranks.size; r++) {
      this.#said[at++] = word;
      let rows = 0;
      for (let e = starts[r]; e < starts[r + 1]; e++) {
        const ofExpert = rowStarts === null ? 0 : rowsOf(rowStarts, e);
        this.#said[at++] = ofExpert;
        rows += ofExpert;
      }
      this.#sent[r] = rows * this.#width;
    }
  }

  /** Has this rank's rows x computed, and computes those that come, as `#agree` has told. */
  #compute(layer: number, x: MatrixView, y: MatrixView): void {
    const s = this.#enter(this.#countRows());
    const { received, sorted, outputs, rowStarts, order, places } = s;
    this.#move(x, this.#sent, received, this.#came);
    // Rows of a single rank are sorted as they come.
    const isSorted = this.#came.filter((elements) => elements > 0).length < 2;
    if (!isSorted) {
      this.#listRows(s);
      gatherRows(this.#kernels, received, order, sorted);
    }
    const input = isSorted ? received : sorted;
    if (s.rows > 0) {
      this.#layers[layer].forwardAt(s.experts, { rowStarts, slotToToken: order }, input, outputs);
    }
    if (!isSorted) gatherRows(this.#kernels, outputs, places, received);
    this.#store!.requireUnchanged();
    this.#move(isSorted ? outputs : received, this.#came, y, this.#sent);
  }

  /** Counts the rows that come from each rank; returns their sum. */
  #countRows(): number {
    const { count } = this.own;
    let all = 0;
    for (let r = 0; r < this.ranks.size; r++) {
      let rows = 0;
      for (let e = 0; e < count; e++) rows += this.#rowsFrom(r, e);
      this.#came[r] = rows * this.#width;
      all += rows;
    }
    return all;
  }

  /** The rows that come from rank r for this rank's expert e. */
  #rowsFrom(r: number, e: number): number {
    return this.#heard[r * (1 + this.own.count) + 1 + e];
  }

  /** Makes room for so many rows, and notes how many each expert has. */
  #enter(rows: number): ExchangeSlots {
    if (this.#slots?.rows !== rows) this.#slots = this.#plan(rows);
    const { rowStarts } = this.#slots;
    const { data, at } = rowStarts;
    data[at] = 0;
    for (let e = 0; e < this.own.count; e++) {
      let ofExpert = 0;
      for (let r = 0; r < this.ranks.size; r++) ofExpert += this.#rowsFrom(r, e);
      data[at + e + 1] = data[at + e] + ofExpert;
    }
    return this.#slots;
  }

  #plan(rows: number): ExchangeSlots {
    const planner = new Planner(this.#memory);
    const H = this.#width;
    const slots = {
      rows,
      rowStarts: planner.ints(this.own.count + 1),
      received: planner.floats(rows, H),
      sorted: planner.floats(rows, H),
      outputs: planner.floats(rows, H),
      order: planner.ints(rows),
      places: planner.ints(rows),
      experts: this.#layers[0].plan(planner, rows),
    };
    this.#memory.ensure(planner);
    return slots;
  }

  /** Fills `order` and `places`. */
  #listRows({ order, places }: ExchangeSlots): void {
    const { size } = this.ranks;
    const next = this.#came.map((_, r) => {
      let before = 0;
      for (let q = 0; q < r; q++) before += this.#came[q] / this.#width;
      return before;
    });
    let row = 0;
    for (let e = 0; e < this.own.count; e++) {
      for (let r = 0; r < size; r++) {
        for (let left = this.#rowsFrom(r, e); left > 0; left--) {
          const place = next[r]++;
          places.data[places.at + place] = row;
          order.data[order.at + row++] = place;
        }
      }
    }
  }

  #move(from: MatrixView, sent: readonly number[], to: MatrixView, came: readonly number[]): void {
    this.ranks.allToAll(from.data, from.at, sent, to.data, to.at, came).wait();
  }
}

/** The first expert of each rank, and their number. */
function startsOf(nExperts: number, size: number, counts: readonly number[] | undefined): number[] {
  if (nExperts === 0)
    throw new RangeError('expertRanks: the model must have experts, all its layers are dense');
  if (counts === undefined) {
    return Array.from({ length: size + 1 }, (_, r) => Math.floor((r * nExperts) / size));
  }
  if (!Array.isArray(counts))
    throw new TypeError(`expertRanks: counts must be an array, got ${String(counts)}`);
  if (counts.length !== size) {
    throw new RangeError(
      `expertRanks: counts must have a number for each of ${size} ranks, has ${counts.length}`,
    );
  }
  const starts = [0];
  for (const [r, count] of counts.entries()) {
    checkInteger(`expertRanks: counts[${r}]`, count, 0);
    starts.push(starts[r] + count);
  }
  if (starts[size] === nExperts) return starts;
  throw new RangeError(
    `expertRanks: counts must add up to the model's ${nExperts} experts, got ${starts[size]}`,
  );
}

function rowsOf({ data, at }: IndexView, expert: number): number {
  return data[at + expert + 1] - data[at + expert];
}

function disagree(agreed: number, rank: number, other: number): SgemoeError {
  const words = (word: number) =>
    word === WAITS ? 'waits' : word === ENDS ? 'ends' : `computes layer ${word}`;
  const message = `Rank ${rank} ${words(other)}, one before it ${words(agreed)}.`;
  return new SgemoeError('SGEMOE_RANKS_MISMATCH', message);
}
