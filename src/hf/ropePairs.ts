/*
 * RoPE turns pairs of a head's D numbers. sgemoe pairs neighbours (2i, 2i+1), `transformers` halves (i, i + D/2), both by
 * p theta^(-2i/D). Queries and keys enter a dot product alone, so their numbers may stand in any order that both share: the
 * rows of the two projections, their biases and the gains of their norms are reordered,
 *   neighbours[2i] = halves[i], neighbours[2i+1] = halves[i + D/2],
 * and the model is the same. Values and the output projection stay.
 */

/** Index among the halves of the row that is `row` among the neighbours. */
export function halvesRow(row: number, headDim: number): number {
  const head = row - (row % headDim);
  const at = row % headDim;
  return head + (at % 2 === 0 ? at / 2 : headDim / 2 + (at - 1) / 2);
}

/** Index among the neighbours of the row that is `row` among the halves. */
export function neighboursRow(row: number, headDim: number): number {
  const head = row - (row % headDim);
  const at = row % headDim;
  return head + (at < headDim / 2 ? 2 * at : 2 * (at - headDim / 2) + 1);
}

/** Turns rows [heads * headDim, cols] from halves into neighbours, in place, a head at a time. */
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

/** Whether a parameter's rows belong to the heads of queries or keys before their rotation. */
export function isRotated(name: string): boolean {
  return /\.self_attn\.(?:[qk]_proj\.(?:weight|bias)|[qk]_norm\.weight)$/.test(name);
}
