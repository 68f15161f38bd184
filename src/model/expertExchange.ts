import type { Collectives } from '../backend/collectives';
import type { Kernels } from '../backend/kernels';
import { SgemoeError } from '../base/errors';
import { PRECISIONS, type Precision } from '../base/precision';
import { type IndexView, type MatrixView, viewIn } from '../memory/matrixView';
import type { ParameterStore } from '../memory/parameters';
import { Planner, Workspace } from '../memory/workspace';
import { type ExpertDivision, ExpertLayout, type ExpertRanks } from './expertLayout';
import { ExpertRows } from './expertRows';
import { Experts, type ExpertsDims, type RowExperts } from './experts';

/** What a rank says at the begin of an exchange: which layer it computes and in which precision (`wordOf`), or one of these. */
const FOLLOWS = -1;
const WAITS = -2;
const ENDS = -3;

/** Milliseconds between two words that say to go on waiting: far below any time limit that makes sense. */
const WAIT_MS = 500;

/** What the ranks agree on: a layer's word; 'wait' to go on waiting for one; 'none' where all follow; 'end'. */
type Agreed = number | 'wait' | 'none' | 'end';

const WORDS = new Map<number, Agreed>([
  [FOLLOWS, 'none'],
  [WAITS, 'wait'],
  [ENDS, 'end'],
]);

/** Which memory a layer's rows take, and in which precision they are computed. */
interface DividedSlots {
  /** The layer whose plan this is: that of every layer where no forward has to keep anything. */
  readonly place: number;
  readonly precision: Precision;
}

/** The experts of a layer of which this rank has a part: rows go to their owners and come back computed, gradients likewise. */
class DividedExperts implements RowExperts<DividedSlots, null> {
  /** Adapters would need the token of each row, which stays with its rank. */
  readonly projections = [];

  constructor(
    private readonly exchange: ExpertExchange,
    private readonly layer: number,
  ) {}

  plan({ precision }: Planner): DividedSlots {
    return { place: this.layer, precision };
  }

  planBackward(): null {
    return null;
  }

  forwardAt(s: DividedSlots, { rowStarts }: { rowStarts: IndexView }, x: MatrixView, y: MatrixView): void {
    this.exchange.forward(this.layer, s, rowStarts, x, y);
  }

  backwardAt(s: DividedSlots, _: null, __: IndexView, ___: MatrixView, dy: MatrixView): void {
    this.exchange.backward(this.layer, s, dy);
  }
}

/**
 * Has the experts of a model's mixtures computed by the ranks that have them (`ExpertLayout`). Each rank sends its rows, sorted by
 * expert, to the experts' owners in its group; an owner computes those of an expert rank by rank, in the order in which each sent
 * them, and sends the outputs back. So a row's output is that of one process, where the kernels' sums don't depend on the number of
 * rows. In a backward the outputs' gradients go the same way, and those of the rows come back.
 *
 * Ranks compute the same layers at the same time, or follow what others compute (`follow`, `answerAll`): a rank without tokens needs
 * nothing but its experts. All ranks of all groups agree on the layer.
 */
export class ExpertExchange implements ExpertDivision {
  readonly ranks: Collectives;
  readonly layout: ExpertLayout;
  readonly #kernels: Kernels;
  readonly #layers: Experts[] = [];
  /** The rows of each layer, by its place in `DividedSlots`; undefined where none was needed yet. */
  readonly #rows: (ExpertRows | undefined)[] = [];
  readonly #scratch: Workspace;
  #width = 0;
  /** Has the experts. */
  #store: ParameterStore | null = null;
  /** For each rank what is said to it: a word, followed by the rows of each of its experts; and what it said. */
  readonly #said: Int32Array;
  readonly #heard: Int32Array;
  readonly #saidCounts: readonly number[];
  readonly #heardCounts: readonly number[];

  /** @throws TypeError or RangeError as `ExpertLayout`. */
  constructor(kernels: Kernels, nExperts: number, { collectives, ...division }: ExpertRanks) {
    this.ranks = collectives;
    const layout = new ExpertLayout(nExperts, collectives, division);
    this.layout = layout;
    this.#kernels = kernels;
    this.#scratch = new Workspace(kernels);
    const ranks = Array.from({ length: layout.size }, (_, r) => r);
    const isNear = (r: number) => r >= layout.first && r < layout.first + layout.groupSize;
    this.#saidCounts = ranks.map((r) => 1 + layout.of(r).count);
    this.#heardCounts = ranks.map((r) => 1 + (isNear(r) ? layout.own.count : 0));
    this.#said = new Int32Array(sum(this.#saidCounts));
    this.#heard = new Int32Array(sum(this.#heardCounts));
  }

  /** Makes this rank's experts of the next layer. */
  addExperts(store: ParameterStore, prefix: string, dims: ExpertsDims, scale: number): void {
    this.#layers.push(new Experts(store, prefix, dims, scale, this.layout.own));
    this.#width = dims.hiddenDim;
    this.#store = store;
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
  forward(
    layer: number,
    { place, precision }: DividedSlots,
    rowStarts: IndexView,
    x: MatrixView,
    y: MatrixView,
  ): void {
    const word = wordOf(layer, precision);
    this.#agree(word, rowStarts);
    this.#compute(word, place, x, y);
  }

  /** After `forward` with these slots: replaces dy [T*K,H], the gradient of y, by that of x. @throws SgemoeError as `Collectives`. */
  backward(layer: number, { place }: DividedSlots, dy: MatrixView): void {
    this.#rowsAt(place).backward(this.#layers[layer], this.#scratch, dy);
  }

  /**
   * Computes what the other ranks compute, until all follow: for ranks that do different numbers of forwards. Those that have
   * done theirs call it, and all return together. @throws SgemoeError as `Collectives`.
   */
  follow(): void {
    for (;;) {
      const agreed = this.#agree(FOLLOWS, null);
      if (agreed === 'none') return;
      this.#computeForOthers(agreed);
    }
  }

  /** Answers what the other ranks compute, until they end. @throws SgemoeError as `Collectives`. */
  answerAll(): void {
    for (;;) {
      const agreed = this.#agree(FOLLOWS, null);
      if (agreed === 'end') return;
      this.#computeForOthers(agreed);
    }
  }

  #computeForOthers(agreed: Agreed): void {
    if (typeof agreed !== 'number') return;
    const none = viewIn(this.#scratch.floatSpace, 0, 0, this.#width);
    this.#compute(agreed, 0, none, none);
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
    let agreed = FOLLOWS;
    for (let r = 0, at = 0; r < this.ranks.size; at += this.#heardCounts[r++]) {
      const other = heard[at];
      if (agreed === FOLLOWS) agreed = other;
      else if (other !== FOLLOWS && other !== agreed) throw disagree(agreed, r, other);
    }
    return WORDS.get(agreed) ?? agreed;
  }

  #say(word: number, rowStarts: IndexView | null): void {
    let at = 0;
    for (let r = 0; r < this.ranks.size; r++) {
      this.#said[at++] = word;
      const { first, count } = this.layout.of(r);
      for (let e = first; e < first + count; e++) {
        this.#said[at++] = rowStarts === null ? 0 : rowsOf(rowStarts, e);
      }
    }
  }

  /** Has this rank's rows x computed, and computes those that come, as `#agree` has told. */
  #compute(word: number, place: number, x: MatrixView, y: MatrixView): void {
    const rows = this.#rowsAt(place);
    for (let r = 0, said = 0, heard = 0; r < this.ranks.size; r++) {
      const [saidEnd, heardEnd] = [said + this.#saidCounts[r], heard + this.#heardCounts[r]];
      let sent = 0;
      for (let i = said + 1; i < saidEnd; i++) sent += this.#said[i];
      rows.noteSent(r, sent);
      if (heardEnd > heard + 1) rows.noteCame(r, this.#heard, heard + 1);
      [said, heard] = [saidEnd, heardEnd];
    }
    const { layer, precision } = computedBy(word);
    rows.forward(this.#layers[layer], precision, x, y);
    this.#store!.requireUnchanged();
  }

  /** Bytes that a forward and its backward would allocate for so many rows that come; they keep those of each layer unless `recomputes`. */
  growthBytes(rows: number, recomputes: boolean): number {
    const places = recomputes ? 1 : this.#layers.length;
    let bytes = 0;
    for (let place = 0; place < places; place++)
      bytes += this.#rowsAt(place).growthBytes(this.#layers[0], rows);
    const planner = new Planner();
    this.#layers[0].planBackward(planner, rows);
    return bytes + this.#scratch.growthBytes(planner);
  }

  #rowsAt(place: number): ExpertRows {
    this.#rows[place] ??= new ExpertRows(this.#kernels, this.ranks, this.layout.own.count, this.#width);
    return this.#rows[place];
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

function rowsOf({ data, at }: IndexView, expert: number): number {
  return data[at + expert + 1] - data[at + expert];
}

function wordOf(layer: number, precision: Precision): number {
  return layer * PRECISIONS.length + PRECISIONS.indexOf(precision);
}

function computedBy(word: number): { layer: number; precision: Precision } {
  const { length } = PRECISIONS;
  return { layer: Math.floor(word / length), precision: PRECISIONS[word % length] };
}

function disagree(agreed: number, rank: number, other: number): SgemoeError {
  const words = (word: number) => {
    if (word < 0) return word === WAITS ? 'waits' : 'ends';
    const { layer, precision } = computedBy(word);
    return `computes layer ${layer} in ${precision}`;
  };
  const message = `Rank ${rank} ${words(other)}, one before it ${words(agreed)}.`;
  return new SgemoeError('SGEMOE_RANKS_MISMATCH', message);
}
