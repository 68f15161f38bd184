import { matrix, reads, requireApart, writes } from './areas';
import { type Definitions, requireIndices, requireLd } from './checks';
import { Scratch } from './scratch';

type RowKernel =
  | 'softmaxForward'
  | 'softmaxBackward'
  | 'rmsNormForward'
  | 'rmsNormBackward'
  | 'gatherRows'
  | 'scatterAddRows'
  | 'scatterAddRowsBackward'
  | 'embeddingBackward';

const rowScratch = new Scratch();

/** The largest of x[offset .. offset+cols); NaN if one of them is NaN, -inf if cols is 0. */
export function rowMax(x: Float32Array | Float64Array, offset: number, cols: number): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let c = 0; c < cols; c++) {
    const value = x[offset + c];
    // Once max is NaN no value is larger.
    if (value > max || Number.isNaN(value)) max = value;
  }
  return max;
}

/**
 * exps[c] = exp(x[c] - max x); returns their sum. A row of only -inf gives zeros and the sum 0.
 * `exps` may be `x`.
 */
export function shiftedExp(
  x: Float32Array | Float64Array,
  offset: number,
  cols: number,
  max: number,
  exps: Float64Array,
): number {
  if (max === Number.NEGATIVE_INFINITY) {
    exps.fill(0, 0, cols);
    return 0;
  }
  let sum = 0;
  for (let c = 0; c < cols; c++) {
    const e = Math.exp(x[offset + c] - max);
    exps[c] = e;
    sum += e;
  }
  return sum;
}

export const rowKernels: Definitions<RowKernel> = {
  softmaxForward: {
    signature: 'x:floats xOffset y:floats yOffset rows cols',
    run(x, xOffset, y, yOffset, rows, cols) {
      reads('softmaxForward', 'x', x, xOffset, rows * cols);
      writes('softmaxForward', 'y', y, yOffset, rows * cols);
      if (rows === 0 || cols === 0) return;
      requireApart('softmaxForward', 'y', 'x');
      const exps = rowScratch.take(cols);
      for (let r = 0; r < rows; r++) {
        const from = xOffset + r * cols;
        const to = yOffset + r * cols;
        const sum = shiftedExp(x, from, cols, rowMax(x, from, cols), exps);
        for (let c = 0; c < cols; c++) y[to + c] = sum === 0 ? 0 : exps[c] / sum;
      }
    },
  },

  softmaxBackward: {
    signature: 'y:floats yOffset dy:floats dyOffset dx:floats dxOffset rows cols',
    run(y, yOffset, dy, dyOffset, dx, dxOffset, rows, cols) {
      reads('softmaxBackward', 'y', y, yOffset, rows * cols);
      reads('softmaxBackward', 'dy', dy, dyOffset, rows * cols);
      writes('softmaxBackward', 'dx', dx, dxOffset, rows * cols);
      if (cols === 0) return;
      requireApart('softmaxBackward', 'dx', 'dy');
      for (let r = 0; r < rows; r++) {
        const at = r * cols;
        let dot = 0;
        for (let c = 0; c < cols; c++) dot += y[yOffset + at + c] * dy[dyOffset + at + c];
        for (let c = 0; c < cols; c++) {
          dx[dxOffset + at + c] = y[yOffset + at + c] * (dy[dyOffset + at + c] - dot);
        }
      }
    },
  },

  rmsNormForward: {
    signature: `x:floats xOffset ldx gamma:floats gammaOffset y:floats yOffset ldy invRms:floats invRmsOffset
      rows cols eps:real`,
    run(x, xOffset, ldx, gamma, gammaOffset, y, yOffset, ldy, invRms, invRmsOffset, rows, cols, eps) {
      requireLd('rmsNormForward', 'ldx', ldx, cols);
      requireLd('rmsNormForward', 'ldy', ldy, cols);
      reads('rmsNormForward', 'x', x, xOffset, matrix(rows, cols, ldx));
      reads('rmsNormForward', 'gamma', gamma, gammaOffset, cols);
      writes('rmsNormForward', 'y', y, yOffset, matrix(rows, cols, ldy));
      writes('rmsNormForward', 'invRms', invRms, invRmsOffset, rows);
      if (cols === 0) return;
      requireApart('rmsNormForward', 'y', 'x');
      for (let r = 0; r < rows; r++) {
        const from = xOffset + r * ldx;
        const to = yOffset + r * ldy;
        let squares = 0;
        for (let c = 0; c < cols; c++) squares += x[from + c] * x[from + c];
        const s = 1 / Math.sqrt(squares / cols + eps);
        for (let c = 0; c < cols; c++) y[to + c] = gamma[gammaOffset + c] * x[from + c] * s;
        invRms[invRmsOffset + r] = s;
      }
    },
  },

  rmsNormBackward: {
    signature: `x:floats xOffset ldx gamma:floats gammaOffset invRms:floats invRmsOffset
      dy:floats dyOffset lddy
      dx:floats dxOffset lddx accumulateDx:flag dGamma:floats dGammaOffset rows cols`,
    run(
      x,
      xOffset,
      ldx,
      gamma,
      gammaOffset,
      invRms,
      invRmsOffset,
      dy,
      dyOffset,
      lddy,
      dx,
      dxOffset,
      lddx,
      accumulateDx,
      dGamma,
      dGammaOffset,
      rows,
      cols,
    ) {
      requireLd('rmsNormBackward', 'ldx', ldx, cols);
      requireLd('rmsNormBackward', 'lddy', lddy, cols);
      requireLd('rmsNormBackward', 'lddx', lddx, cols);
      reads('rmsNormBackward', 'x', x, xOffset, matrix(rows, cols, ldx));
      reads('rmsNormBackward', 'gamma', gamma, gammaOffset, cols);
      reads('rmsNormBackward', 'invRms', invRms, invRmsOffset, rows);
      reads('rmsNormBackward', 'dy', dy, dyOffset, matrix(rows, cols, lddy));
      writes('rmsNormBackward', 'dx', dx, dxOffset, matrix(rows, cols, lddx));
      writes('rmsNormBackward', 'dGamma', dGamma, dGammaOffset, cols);
      if (rows === 0 || cols === 0) return;
      if (accumulateDx) requireApart('rmsNormBackward');
      else requireApart('rmsNormBackward', 'dx', 'dy');
      const gammaSums = rowScratch.zeros(cols);
      for (let r = 0; r < rows; r++) {
        const xr = xOffset + r * ldx,
          dyr = dyOffset + r * lddy,
          dxr = dxOffset + r * lddx;
        const s = invRms[invRmsOffset + r];
        let dot = 0;
        for (let c = 0; c < cols; c++) {
          const product = dy[dyr + c] * x[xr + c];
          dot += product * gamma[gammaOffset + c];
          gammaSums[c] += product * s;
        }
        const shift = (s * s * s * dot) / cols;
        for (let c = 0; c < cols; c++) {
          const d = s * dy[dyr + c] * gamma[gammaOffset + c] - shift * x[xr + c];
          dx[dxr + c] = accumulateDx ? dx[dxr + c] + d : d;
        }
      }
      for (let c = 0; c < cols; c++) dGamma[dGammaOffset + c] += gammaSums[c];
    },
  },

  gatherRows: {
    signature: 'src:floats srcOffset srcRows indices:ints indicesOffset dst:floats dstOffset rows cols',
    run(src, srcOffset, srcRows, indices, indicesOffset, dst, dstOffset, rows, cols) {
      reads('gatherRows', 'src', src, srcOffset, srcRows * cols);
      reads('gatherRows', 'indices', indices, indicesOffset, rows);
      writes('gatherRows', 'dst', dst, dstOffset, rows * cols);
      requireIndices('gatherRows', 'indices', indices, indicesOffset, rows, srcRows);
      requireApart('gatherRows');
      for (let r = 0; r < rows; r++) {
        const from = srcOffset + indices[indicesOffset + r] * cols;
        const to = dstOffset + r * cols;
        for (let c = 0; c < cols; c++) dst[to + c] = src[from + c];
      }
    },
  },

  scatterAddRows: {
    signature: `x:floats xOffset xRows slots:ints slotsOffset weights:floats? weightsOffset y:floats yOffset
      tokens topK cols`,
    run(x, xOffset, xRows, slots, slotsOffset, weights, weightsOffset, y, yOffset, tokens, topK, cols) {
      const assignments = tokens * topK;
      reads('scatterAddRows', 'x', x, xOffset, xRows * cols);
      reads('scatterAddRows', 'slots', slots, slotsOffset, assignments);
      if (weights) reads('scatterAddRows', 'weights', weights, weightsOffset, assignments);
      writes('scatterAddRows', 'y', y, yOffset, tokens * cols);
      requireIndices('scatterAddRows', 'slots', slots, slotsOffset, assignments, xRows);
      if (assignments === 0 || cols === 0) return;
      requireApart('scatterAddRows');
      const sums = rowScratch.take(cols);
      for (let t = 0; t < tokens; t++) {
        const to = yOffset + t * cols;
        for (let c = 0; c < cols; c++) sums[c] = y[to + c];
        for (let choice = t * topK; choice < (t + 1) * topK; choice++) {
          const from = xOffset + slots[slotsOffset + choice] * cols;
          const w = weights ? weights[weightsOffset + choice] : 1;
          for (let c = 0; c < cols; c++) sums[c] += w * x[from + c];
        }
        for (let c = 0; c < cols; c++) y[to + c] = sums[c];
      }
    },
  },

  scatterAddRowsBackward: {
    signature: `dy:floats dyOffset x:floats xOffset xRows slots:ints slotsOffset weights:floats weightsOffset
      dx:floats dxOffset dWeights:floats dWeightsOffset tokens topK cols`,
    run(
      dy,
      dyOffset,
      x,
      xOffset,
      xRows,
      slots,
      slotsOffset,
      weights,
      weightsOffset,
      dx,
      dxOffset,
      dWeights,
      dWeightsOffset,
      tokens,
      topK,
      cols,
    ) {
      const name = 'scatterAddRowsBackward';
      const assignments = tokens * topK;
      reads(name, 'dy', dy, dyOffset, tokens * cols);
      reads(name, 'x', x, xOffset, xRows * cols);
      reads(name, 'slots', slots, slotsOffset, assignments);
      reads(name, 'weights', weights, weightsOffset, assignments);
      writes(name, 'dx', dx, dxOffset, xRows * cols);
      writes(name, 'dWeights', dWeights, dWeightsOffset, assignments);
      requireIndices(name, 'slots', slots, slotsOffset, assignments, xRows);
      if (assignments === 0 || cols === 0) return;
      requireApart(name, 'dx', 'x');
      for (let choice = 0; choice < assignments; choice++) {
        const upstream = dyOffset + Math.floor(choice / topK) * cols;
        const row = slots[slotsOffset + choice] * cols;
        const w = weights[weightsOffset + choice];
        // The dot product is complete before dx, which may be x, is written.
        let dot = 0;
        for (let c = 0; c < cols; c++) dot += dy[upstream + c] * x[xOffset + row + c];
        for (let c = 0; c < cols; c++) dx[dxOffset + row + c] = w * dy[upstream + c];
        dWeights[dWeightsOffset + choice] = dot;
      }
    },
  },

  embeddingBackward: {
    signature: 'dy:floats dyOffset ids:ints idsOffset dTable:floats dTableOffset vocabSize tokens cols',
    run(dy, dyOffset, ids, idsOffset, dTable, dTableOffset, vocabSize, tokens, cols) {
      reads('embeddingBackward', 'dy', dy, dyOffset, tokens * cols);
      reads('embeddingBackward', 'ids', ids, idsOffset, tokens);
      writes('embeddingBackward', 'dTable', dTable, dTableOffset, vocabSize * cols);
      requireIndices('embeddingBackward', 'ids', ids, idsOffset, tokens, vocabSize);
      requireApart('embeddingBackward');
      for (let t = 0; t < tokens; t++) {
        const from = dyOffset + t * cols;
        const to = dTableOffset + ids[idsOffset + t] * cols;
        for (let c = 0; c < cols; c++) dTable[to + c] += dy[from + c];
      }
    },
  },
};
