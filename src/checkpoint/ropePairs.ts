/*
 * RoPE rotates pairs of a head's D numbers by p theta^(-2i/D). sgemoe pairs neighbours (2i, 2i+1), `transformers` pairs
 * halves (i, i + D/2). Queries and keys only enter dot products, so their numbers may stand in any order that both share.
 * The rows of the two projections, their biases and the gains of their norms are therefore reordered,
 *   neighbours[2i] = halves[i], neighbours[2i+1] = halves[i + D/2],
 * which leaves the model the same. Values and the output projection stay.
 *
 * Weights of our own always pair neighbours: those that are trained, saved and exported. A model whose files are mapped uses
 * their rows where they lie. If these pair halves, then so does everything of it that has their order: float32 biases and gains,
 * adapters and their moments, keys in a cache. `ParameterStore.pairsHalves` tells the kernel `rope` and whoever reads or
 * writes such rows.
 */

/** The index, in the order of halves, of the row with index `row` in the order of neighbours. */
export function halvesRow(row: number, headDim: number): number {
  const head = row - (row % headDim);
  const at = row % headDim;
  return head + (at % 2 === 0 ? at / 2 : headDim / 2 + (at - 1) / 2);
}

/** The index, in the order of neighbours, of the row with index `row` in the order of halves. */
export function neighboursRow(row: number, headDim: number): number {
  const head = row - (row % headDim);
  const at = row % headDim;
  return head + (at < headDim / 2 ? 2 * at : 2 * (at - headDim / 2) + 1);
}

/** Reorders rows [heads * headDim, cols] from halves to neighbours, in place, one head at a time. */
export function halvesToNeighbours(data: Float32Array, headDim: number, cols: number): void {
  const size = headDim * cols;
  const head = new Float32Array(size);
  for (let start = 0; start < data.length; start += size) {
    head.set(data.subarray(start, start + size));
    for (let row = 0; row < headDim; row++) {
      const from = halvesRow(row, headDim) * cols;
      data.set(head.subarray(from, from + cols), start + row * cols);
    }
  }
}

/** Whether a parameter's rows produce or scale queries or keys before their rotation. */
export function isRotated(name: string): boolean {
  return /\.self_attn\.(?:[qk]_proj\.(?:weight|bias)|[qk]_norm\.weight)$/.test(name);
}
