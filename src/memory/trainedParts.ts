import type { TrainedPart, Weight, WeightKind } from './weight';

/** Alignment, in elements, of a buffer's base and of every weight in it: 64 bytes of float32. */
const ALIGNMENT = 16;

/** The number of elements of a weight with its padding. */
export function padded(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

/** Elements [offset, offset + size) of buffer `shard`. */
export interface WeightRange {
  readonly shard: number;
  readonly offset: number;
  readonly size: number;
}

/** A public tensor: elements [start, start + size) of a weight. */
interface Tensor {
  readonly name: string;
  readonly weight: Weight;
  readonly start: number;
  readonly size: number;
}

/** Elements [offset, offset + size) of a buffer of weights, whose gradients begin at `gradOffset` of buffer `gradShard`. */
export interface Stretch<Key> extends WeightRange {
  readonly gradShard: number;
  readonly gradOffset: number;
  readonly key: Key;
}

/**
 * Places of weights one behind the other, each padded, in buffers of at most `maxShardElements`. What is divided over ranks has
 * buffers of its own, so that the others are the same on all ranks.
 */
export class Places {
  readonly shardSizes: number[] = [0];
  /** Whether a buffer's weights are divided over ranks. */
  readonly isDivided: boolean[] = [false];

  constructor(readonly maxShardElements: number) {}

  place(size: number, { dividedFrom }: Pick<Weight, 'dividedFrom'>): { shard: number; offset: number } {
    const room = padded(size);
    const isDivided = dividedFrom !== null;
    let shard = this.isDivided.lastIndexOf(isDivided);
    if (shard < 0 || this.shardSizes[shard] + room > this.maxShardElements) {
      shard = this.shardSizes.push(0) - 1;
      this.isDivided.push(isDivided);
    }
    const offset = this.shardSizes[shard];
    this.shardSizes[shard] += room;
    return { shard, offset };
  }
}

/**
 * Gives each weight its trained parts: of the parameters that `isChosen` names, neighbours joined into the fewest, largest
 * products. Their gradients lie in the order of the weights; with all chosen, each where its weight lies.
 */
export function chooseParts(
  weights: readonly Weight[],
  parameters: readonly Tensor[],
  isChosen: (name: string) => boolean,
  places: Places,
): void {
  const chosen = new Map<Weight, Tensor[]>();
  for (const parameter of parameters) {
    if (!isChosen(parameter.name)) continue;
    const found = chosen.get(parameter.weight);
    if (found) found.push(parameter);
    else chosen.set(parameter.weight, [parameter]);
  }
  for (const weight of weights) {
    weight.trained = partsOf(weight, chosen.get(weight) ?? [], places);
  }
}

/** Rows [from, end) of a matrix. */
interface Rows {
  from: number;
  end: number;
}

function partsOf(weight: Weight, parameters: readonly Tensor[], places: Places): TrainedPart[] {
  const { cols, count } = weight.form;
  const parts: TrainedPart[] = [];
  const ofMatrix = chosenRows(weight, parameters);
  for (let first = 0; first < count; ) {
    let end = first + 1;
    while (end < count && sameRows(ofMatrix[first], ofMatrix[end])) end++;
    for (const { from, end: last } of ofMatrix[first]) {
      const size = (end - first) * (last - from) * cols;
      const gradient = size === weight.size ? weight.gradient : weight.emptyRows(size / cols);
      const place = places.place(size, weight);
      parts.push({ matrix: first, count: end - first, row: from, rows: last - from, gradient, ...place });
    }
    first = end;
  }
  return parts;
}

/** The chosen rows of each matrix, ascending, neighbours joined. */
function chosenRows({ form: { rows, cols, count } }: Weight, parameters: readonly Tensor[]): Rows[][] {
  const found: Rows[][] = Array.from({ length: count }, () => []);
  for (const { start, size } of [...parameters].sort((a, b) => a.start - b.start)) {
    const [first, from] = [Math.floor(start / (rows * cols)), (start / cols) % rows];
    // A tensor is rows of one matrix, or all rows of several.
    for (let left = size / cols, matrix = first; left > 0; left -= rows, matrix++) {
      const end = from + Math.min(left, rows);
      const last = found[matrix].at(-1);
      if (last?.end === from) last.end = end;
      else found[matrix].push({ from, end });
    }
  }
  return found;
}

function sameRows(a: readonly Rows[], b: readonly Rows[]): boolean {
  return a.length === b.length && a.every(({ from, end }, i) => from === b[i].from && end === b[i].end);
}

/** Where the gradient of elements [start, start + size) of a weight lies in the buffers; null without one. */
export function gradientPlace(
  weight: Weight,
  start: number,
  size: number,
): { shard: number; at: number } | null {
  const { rows, cols } = weight.form;
  const matrix = Math.floor(start / (rows * cols));
  const row = (start / cols) % rows;
  for (const part of weight.trained) {
    const [m, r] = [matrix - part.matrix, row - part.row];
    if (m < 0 || m >= part.count || r < 0) continue;
    const end = r + size / cols;
    const isInside = end <= part.rows || (part.rows === rows && m * rows + end <= part.count * rows);
    if (isInside) return { shard: part.shard, at: part.offset + (m * part.rows + r) * cols };
  }
  return null;
}

/** Cuts trained weights into the fewest stretches whose weights and gradients are contiguous and whose key is the same. */
export function stretchesOf<Key>(
  weights: readonly Weight[],
  keyOf: (kind: WeightKind) => Key,
): Stretch<Key>[] {
  type Open = { -readonly [K in keyof Stretch<Key>]: Stretch<Key>[K] };
  const found: Open[] = [];
  for (const weight of weights) {
    for (const piece of piecesOf(weight)) {
      const key = keyOf(weight.kind);
      const last = found.findLast(({ shard }) => shard === piece.shard);
      const follows =
        last?.key === key &&
        last.offset + last.size === piece.offset &&
        last.gradShard === piece.gradShard &&
        last.gradOffset + last.size === piece.gradOffset;
      if (follows) last.size += piece.size;
      else found.push({ ...piece, key });
    }
  }
  return found;
}

/** A whole weight is one piece with its padding; rows of several matrices are one piece for each matrix. */
function* piecesOf(weight: Weight): Generator<Omit<Stretch<unknown>, 'key'>> {
  const { rows, cols } = weight.form;
  for (const { matrix, count, row, rows: n, shard: gradShard, offset: gradOffset } of weight.trained) {
    const isWhole = n === rows;
    const size = n * cols * (isWhole ? count : 1);
    for (let i = 0; i < (isWhole ? 1 : count); i++) {
      const start = ((matrix + i) * rows + row) * cols;
      yield {
        shard: weight.shard,
        offset: weight.offset + start,
        size: size === weight.size ? padded(size) : size,
        gradShard,
        gradOffset: gradOffset + i * size,
      };
    }
  }
}

/** The ranges of the gradients of weights, padding included, contiguous ones joined. */
export function gradientRanges(weights: readonly Weight[]): WeightRange[] {
  const found: { shard: number; offset: number; size: number }[] = [];
  for (const { gradient, shard, offset } of weights.flatMap(({ trained }) => trained)) {
    const last = found.at(-1);
    if (last?.shard === shard) last.size = offset + padded(gradient.size) - last.offset;
    else found.push({ shard, offset, size: padded(gradient.size) });
  }
  return found;
}
