import type { Collectives } from '../backend/collectives';
import { checkInteger } from '../base/checks';
import type { ParameterStore } from '../memory/parameters';
import { type ExpertRange, Experts, type ExpertsDims, type RowExperts } from './experts';

/** Ranks over which the experts of each layer are divided. */
export interface ExpertRanks {
  /** What connects them. While a model uses them, nothing but its trainer may. */
  readonly collectives: Collectives;
  /** The number of experts of each rank of a group, 0 or more, which add up to the model's. Default: as even as can be. */
  readonly counts?: readonly number[] | undefined;
  /**
   * Neighbouring ranks that together have each expert once, a divisor of their number: of 4 ranks and a group size of 2, ranks 0 and 2
   * have the same experts, and ranks 1 and 3. Default: all ranks.
   */
  readonly groupSize?: number | undefined;
}

/** Makes a rank's experts of a mixture, and reserves their weights in `store`. */
export interface ExpertDivision {
  addLayer(store: ParameterStore, prefix: string, dims: ExpertsDims, scale: number): RowExperts;
}

/** The division of a rank that only tells which weights it has. */
export function rangeOfExperts(range: ExpertRange): ExpertDivision {
  return { addLayer: (store, prefix, dims, scale) => new Experts(store, prefix, dims, scale, range) };
}

/** Which ranks have which experts. Ranks [first, first + groupSize) are this rank's group; rank first + i has `rangeOf(i)`. */
export class ExpertLayout {
  readonly size: number;
  readonly groupSize: number;
  /** The first rank of this one's group. */
  readonly first: number;
  /** This rank's place in its group. */
  readonly position: number;
  /** [groupSize+1] the first expert of each rank of a group, and their number. */
  readonly starts: readonly number[];

  /** @throws TypeError or RangeError for a model without experts, a group size or counts that don't fit. */
  constructor(
    nExperts: number,
    { rank, size }: { rank: number; size: number },
    { counts, groupSize = size }: Pick<ExpertRanks, 'counts' | 'groupSize'> = {},
  ) {
    requireDivisor('expertRanks: groupSize', groupSize, size);
    this.size = size;
    this.groupSize = groupSize;
    this.position = rank % groupSize;
    this.first = rank - this.position;
    this.starts = startsOf(nExperts, groupSize, counts);
  }

  /** The experts at a place in each group. */
  rangeOf(position: number): ExpertRange {
    const [first, end] = [this.starts[position], this.starts[position + 1]];
    return { first, count: end - first };
  }

  /** This rank's experts. */
  get own(): ExpertRange {
    return this.rangeOf(this.position);
  }

  /** The number of experts at each place. */
  get counts(): number[] {
    return Array.from({ length: this.groupSize }, (_, p) => this.rangeOf(p).count);
  }

  /** The experts of a rank of this one's group; none of any other. */
  of(rank: number): ExpertRange {
    const position = rank - this.first;
    return position < 0 || position >= this.groupSize ? { first: 0, count: 0 } : this.rangeOf(position);
  }
}

/**
 * The layout of a rank for `expertParallel` ranks that have each expert once; null for 1, where each has all.
 * @throws RangeError for a number that isn't a divisor of the ranks', or a model without experts.
 */
export function expertLayoutOf(
  nExperts: number,
  rank: { rank: number; size: number },
  expertParallel: number,
): ExpertLayout | null {
  requireDivisor('expertParallel', expertParallel, rank.size);
  return expertParallel === 1 ? null : new ExpertLayout(nExperts, rank, { groupSize: expertParallel });
}

/** @throws RangeError, beginning with `what`, unless n divides the number of ranks. */
export function requireDivisor(what: string, n: number, ranks: number): void {
  checkInteger(what, n, 1);
  if (ranks % n === 0) return;
  throw new RangeError(`${what} must be a divisor of the number of ranks (${ranks}), got ${n}`);
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
