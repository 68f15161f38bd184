import type { Collectives } from '../backend/collectives';
import type { Kernels } from '../backend/kernels';
import type { Precision } from '../base/precision';
import type { IndexView, MatrixView } from '../memory/matrixView';
import { gatherRows } from '../memory/operations/mixture';
import type { ParameterStore } from '../memory/parameters';
import { Planner, Workspace } from '../memory/workspace';
import type { ExpertDivision } from './expertLayout';
import { type ExpertRange, Experts, type ExpertsDims, type ExpertsSlots, type RowExperts } from './experts';

/** The memory of the rows that came, R of them. */
interface ReceivedSlots {
  readonly rows: number;
  readonly precision: Precision;
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

/**
 * The rows of a layer that the ranks send each other: how many, and on the owner's side what a backward needs of them. The memory grows
 * with the rows that come, whose number a plan can't know.
 */
export class ExpertRows {
  /** Elements of the rows that go to each rank, and that come from it. */
  readonly #sent: number[];
  readonly #came: number[];
  /** [size,count] the rows of each rank for each expert of this one. */
  readonly #cameRows: Int32Array;
  readonly #memory: Workspace;
  /** Reused while exchanges have as many rows. */
  #slots: ReceivedSlots | null = null;
  /** Whether the rows came in the order of the experts, as those of a single rank do. */
  #isSorted = false;

  /** @param count experts of this rank. @param width H */
  constructor(
    private readonly kernels: Kernels,
    private readonly ranks: Collectives,
    private readonly count: number,
    private readonly width: number,
  ) {
    this.#memory = new Workspace(kernels);
    this.#sent = new Array(ranks.size).fill(0);
    this.#came = new Array(ranks.size).fill(0);
    this.#cameRows = new Int32Array(ranks.size * count);
  }

  /** Notes the rows that go to a rank. */
  noteSent(rank: number, rows: number): void {
    this.#sent[rank] = rows * this.width;
  }

  /** Notes the rows that come from a rank: heard[at + e] for this rank's expert e. */
  noteCame(rank: number, heard: Int32Array, at: number): void {
    let rows = 0;
    for (let e = 0; e < this.count; e++) {
      this.#cameRows[rank * this.count + e] = heard[at + e];
      rows += heard[at + e];
    }
    this.#came[rank] = rows * this.width;
  }

  /** y = the outputs for this rank's rows x, as they were noted; computes those that come. */
  forward(experts: Experts, precision: Precision, x: MatrixView, y: MatrixView): void {
    const s = this.#enter(experts, precision);
    const { received, sorted, outputs, rowStarts, order, places } = s;
    this.#move(x, this.#sent, received, this.#came);
    this.#isSorted = this.#came.filter((elements) => elements > 0).length < 2;
    if (!this.#isSorted) {
      this.#listRows(s);
      gatherRows(this.kernels, received, order, sorted);
    }
    const input = this.#isSorted ? received : sorted;
    if (s.rows > 0) experts.forwardAt(s.experts, { rowStarts, slotToToken: order }, input, outputs);
    if (!this.#isSorted) gatherRows(this.kernels, outputs, places, received);
    this.#move(this.#isSorted ? outputs : received, this.#came, y, this.#sent);
  }

  /**
   * After `forward` of these experts: replaces dy, the gradient of y, by that of x, and computes the gradients of the weights from the
   * rows of all ranks. @param scratch memory that is free until the call returns.
   */
  backward(experts: Experts, scratch: Workspace, dy: MatrixView): void {
    const s = this.#slots!;
    const { received, sorted, outputs, order, places } = s;
    // The outputs have left, and where the rows were sorted so have those that came: gradients take their places.
    const came = this.#isSorted ? outputs : received;
    this.#move(dy, this.#sent, came, this.#came);
    if (!this.#isSorted) gatherRows(this.kernels, received, order, outputs);
    if (this.count > 0) {
      const planner = new Planner(scratch, s.precision);
      const scratchOfRows = experts.planBackward(planner, s.rows);
      scratch.ensure(planner);
      const input = this.#isSorted ? received : sorted;
      experts.backwardAt(s.experts, scratchOfRows, s.rowStarts, input, outputs);
    }
    if (!this.#isSorted) gatherRows(this.kernels, outputs, places, received);
    this.#move(came, this.#came, dy, this.#sent);
  }

  /** Bytes that a forward with so many rows that come would allocate. */
  growthBytes(experts: Experts, rows: number): number {
    const planner = new Planner();
    planReceived(planner, experts, rows, this.count, this.width);
    return this.#memory.growthBytes(planner);
  }

  /** Makes room for the rows that come, and notes how many each expert has. */
  #enter(experts: Experts, precision: Precision): ReceivedSlots {
    const rows = this.#cameRows.reduce((sum, each) => sum + each, 0);
    if (this.#slots?.rows !== rows || this.#slots.precision !== precision) {
      this.#slots = this.#plan(experts, rows, precision);
    }
    const { data, at } = this.#slots.rowStarts;
    data[at] = 0;
    for (let e = 0; e < this.count; e++) {
      let ofExpert = 0;
      for (let r = 0; r < this.ranks.size; r++) ofExpert += this.#cameRows[r * this.count + e];
      data[at + e + 1] = data[at + e] + ofExpert;
    }
    return this.#slots;
  }

  #plan(experts: Experts, rows: number, precision: Precision): ReceivedSlots {
    const planner = new Planner(this.#memory, precision);
    const slots = planReceived(planner, experts, rows, this.count, this.width);
    this.#memory.ensure(planner);
    return slots;
  }

  /** Fills `order` and `places`. */
  #listRows({ order, places }: ReceivedSlots): void {
    const next = this.#came.map((_, r) => {
      let before = 0;
      for (let q = 0; q < r; q++) before += this.#came[q] / this.width;
      return before;
    });
    let row = 0;
    for (let e = 0; e < this.count; e++) {
      for (let r = 0; r < this.ranks.size; r++) {
        for (let left = this.#cameRows[r * this.count + e]; left > 0; left--) {
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

/** @param count experts of this rank. @param width H */
function planReceived(
  planner: Planner,
  experts: Experts,
  rows: number,
  count: number,
  width: number,
): ReceivedSlots {
  return {
    rows,
    precision: planner.precision,
    rowStarts: planner.ints(count + 1),
    received: planner.floats(rows, width),
    sorted: planner.floats(rows, width),
    outputs: planner.floats(rows, width),
    order: planner.ints(rows),
    places: planner.ints(rows),
    experts: experts.plan(planner, rows),
  };
}

/**
 * Experts of a rank that are only planned, with the memory of the rows that come to them where the load is even. As in an exchange that
 * memory is its own: it shares none with the rest of a pass.
 */
export class PlannedExperts implements ExpertDivision {
  readonly #plans: Planner[] = [];

  constructor(private readonly range: ExpertRange) {}

  /** Floats and integers of all that was planned. */
  get counts(): { floatCount: number; intCount: number } {
    const total = { floatCount: 0, intCount: 0 };
    for (const { floatCount, intCount } of this.#plans) {
      total.floatCount += floatCount;
      total.intCount += intCount;
    }
    return total;
  }

  addLayer(store: ParameterStore, prefix: string, dims: ExpertsDims, scale: number): RowExperts {
    const { range } = this;
    const experts = new Experts(store, prefix, dims, scale, range);
    const apart = (plan: (planner: Planner) => unknown) => {
      const planner = new Planner();
      plan(planner);
      this.#plans.push(planner);
    };
    return {
      projections: [],
      plan: (_, rows) =>
        apart((planner) => planReceived(planner, experts, rows, range.count, dims.hiddenDim)),
      planBackward: (_, rows) => apart((planner) => experts.planBackward(planner, rows)),
      forwardAt: notPlanned,
      backwardAt: notPlanned,
    };
  }
}

function notPlanned(): never {
  throw new TypeError('these experts were only planned');
}
