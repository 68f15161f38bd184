import { type Definitions, extent, requireIndices, requireLd, requireLength } from './checks';
import { Scratch } from './scratch';

type RowKernel =
  | 'softmaxForward' | 'softmaxBackward' | 'rmsNormForward' | 'rmsNormBackward'
  | 'gatherRows' | 'scatterAddRows' | 'scatterAddRowsBackward' | 'embeddingBackward';

const rowScratch = new Scratch();

/** The largest of x[offset .. offset+cols), NaN when one of them is NaN, -inf when there is none. */
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
 * exps[c] = exp(x[c] - max x) and their sum. A row of nothing but -inf gives zeros and the sum 0.
 * `exps` may be `x`.
 */
export function shiftedExp(
  x: Float32Array | Float64Array, offset: number, cols: number, max: number, exps: Float64Array,
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
      requireLength('softmaxForward', 'x', x, xOffset, rows * cols);
      requireLength('softmaxForward', 'y', y, yOffset, rows * cols);
      if (rows === 0 || cols === 0) return;
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
      requireLength('softmaxBackward', 'y', y, yOffset, rows * cols);
      requireLength('softmaxBackward', 'dy', dy, dyOffset, rows * cols);
      requireLength('softmaxBackward', 'dx', dx, dxOffset, rows * cols);
      if (cols === 0) return;
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
      requireLength('rmsNormForward', 'x', x, xOffset, extent(rows, cols, ldx));
      requireLength('rmsNormForward', 'gamma', gamma, gammaOffset, cols);
      requireLength('rmsNormForward', 'y', y, yOffset, extent(rows, cols, ldy));
      requireLength('rmsNormForward', 'invRms', invRms, invRmsOffset, rows);
      if (cols === 0) return;
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
      x, xOffset, ldx, gamma, gammaOffset, invRms, invRmsOffset, dy, dyOffset, lddy,
      dx, dxOffset, lddx, accumulateDx, dGamma, dGammaOffset, rows, cols,
    ) {
      requireLd('rmsNormBackward', 'ldx', ldx, cols);
      requireLd('rmsNormBackward', 'lddy', lddy, cols);
      requireLd('rmsNormBackward', 'lddx', lddx, cols);
      requireLength('rmsNormBackward', 'x', x, xOffset, extent(rows, cols, ldx));
      requireLength('rmsNormBackward', 'gamma', gamma, gammaOffset, cols);
      requireLength('rmsNormBackward', 'invRms', invRms, invRmsOffset, rows);
      requireLength('rmsNormBackward', 'dy', dy, dyOffset, extent(rows, cols, lddy));
      requireLength('rmsNormBackward', 'dx', dx, dxOffset, extent(rows, cols, lddx));
      requireLength('rmsNormBackward', 'dGamma', dGamma, dGammaOffset, cols);
      if (rows === 0 || cols === 0) return;
      const gammaSums = rowScratch.zeros(cols);
      for (let r = 0; r < rows; r++) {
        const xr = xOffset + r * ldx, dyr = dyOffset + r * lddy, dxr = dxOffset + r * lddx;
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
      requireLength('gatherRows', 'src', src, srcOffset, srcRows * cols);
      requireLength('gatherRows', 'indices', indices, indicesOffset, rows);
      requireLength('gatherRows', 'dst', dst, dstOffset, rows * cols);
      requireIndices('gatherRows', 'indices', indices, indicesOffset, rows, srcRows);
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
      requireLength('scatterAddRows', 'x', x, xOffset, xRows * cols);
      requireLength('scatterAddRows', 'slots', slots, slotsOffset, assignments);
      if (weights) requireLength('scatterAddRows', 'weights', weights, weightsOffset, assignments);
      requireLength('scatterAddRows', 'y', y, yOffset, tokens * cols);
      requireIndices('scatterAddRows', 'slots', slots, slotsOffset, assignments, xRows);
      if (tokens === 0 || cols === 0) return;
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
      dy, dyOffset, x, xOffset, xRows, slots, slotsOffset, weights, weightsOffset,
      dx, dxOffset, dWeights, dWeightsOffset, tokens, topK, cols,
    ) {
      const name = 'scatterAddRowsBackward';
      const assignments = tokens * topK;
      requireLength(name, 'dy', dy, dyOffset, tokens * cols);
      requireLength(name, 'x', x, xOffset, xRows * cols);
      requireLength(name, 'slots', slots, slotsOffset, assignments);
      requireLength(name, 'weights', weights, weightsOffset, assignments);
      requireLength(name, 'dx', dx, dxOffset, xRows * cols);
      requireLength(name, 'dWeights', dWeights, dWeightsOffset, assignments);
      requireIndices(name, 'slots', slots, slotsOffset, assignments, xRows);
      if (cols === 0) return;
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
      requireLength('embeddingBackward', 'dy', dy, dyOffset, tokens * cols);
      requireLength('embeddingBackward', 'ids', ids, idsOffset, tokens);
      requireLength('embeddingBackward', 'dTable', dTable, dTableOffset, vocabSize * cols);
      requireIndices('embeddingBackward', 'ids', ids, idsOffset, tokens, vocabSize);
      for (let t = 0; t < tokens; t++) {
        const from = dyOffset + t * cols;
        const to = dTableOffset + ids[idsOffset + t] * cols;
        for (let c = 0; c < cols; c++) dTable[to + c] += dy[from + c];
      }
    },
  },
};
