import { storedBytes } from '../../base/storageTypes';
import { widenInto } from '../../base/storedBlocks';
import { matrix, reads, requireApart, writes } from './areas';
import {
  type Definitions,
  type ReferenceStored,
  requireIndices,
  requireLd,
  requireRowStarts,
  requireStorageType,
  requireWholeBlocks,
} from './checks';
import { forGroups, groupRows } from './matmul';
import { quantizeRow } from './quantize';
import { Scratch } from './scratch';

type StoredKernel = 'multiplyStored' | 'multiplyStoredGroups' | 'gatherStored' | 'quantize' | 'dequantize';

const wideRow = new Scratch();

function requireIndex(kernel: string, { count }: { readonly count: number }, index: number): void {
  if (index >= count) throw new RangeError(`${kernel}: index must be in [0, ${count}), got ${index}`);
}

/** Matrix `index` as an array that this call reads. @throws Error when its buffer was transferred away. */
function readsMatrix(kernel: string, matrices: ReferenceStored, index: number): void {
  const bytes = matrices.rows * storedBytes(matrices.type, matrices.cols);
  if (matrices.parts[index].length < bytes) {
    throw new Error(`${kernel}: the bytes of matrix ${index} are gone`);
  }
  reads(kernel, 'matrices', matrices.parts[index], 0, bytes);
}

/** y = alpha * x W^T + beta * y, a row of W at a time. As in every BLAS, alpha = 0 reads neither x nor W. */
function multiply(
  { type, rows, cols, parts }: ReferenceStored,
  index: number,
  m: number,
  alpha: number,
  x: Float32Array,
  xAt: number,
  ldx: number,
  beta: number,
  y: Float32Array,
  yAt: number,
  ldy: number,
): void {
  const row = wideRow.take(cols);
  const rowBytes = storedBytes(type, cols);
  const depth = alpha === 0 ? 0 : cols;
  for (let n = 0; n < rows; n++) {
    widenInto(type, parts[index], n * rowBytes, depth, row, 0);
    for (let i = 0; i < m; i++) {
      let sum = 0;
      for (let p = 0; p < depth; p++) sum += x[xAt + i * ldx + p] * row[p];
      const to = yAt + i * ldy + n;
      y[to] = beta === 0 ? alpha * sum : alpha * sum + beta * y[to];
    }
  }
}

export const stored: Definitions<StoredKernel> = {
  multiplyStored: {
    signature: `matrices:stored index m alpha:real x:floats xOffset ldx beta:real y:floats yOffset ldy`,
    run(matrices, index, m, alpha, x, xOffset, ldx, beta, y, yOffset, ldy) {
      const name = 'multiplyStored';
      const own = matrices as ReferenceStored;
      requireIndex(name, own, index);
      requireLd(name, 'ldx', ldx, own.cols);
      requireLd(name, 'ldy', ldy, own.rows);
      readsMatrix(name, own, index);
      reads(name, 'x', x, xOffset, matrix(m, own.cols, ldx));
      writes(name, 'y', y, yOffset, matrix(m, own.rows, ldy));
      requireApart(name);
      multiply(own, index, m, alpha, x, xOffset, ldx, beta, y, yOffset, ldy);
    },
  },

  multiplyStoredGroups: {
    signature: `matrices:stored rowStarts:ints rowStartsOffset alpha:real x:floats xOffset ldx
      beta:real y:floats yOffset ldy`,
    run(matrices, rowStarts, rowStartsOffset, alpha, x, xOffset, ldx, beta, y, yOffset, ldy) {
      const name = 'multiplyStoredGroups';
      const own = matrices as ReferenceStored;
      const { count, rows, cols } = own;
      requireLd(name, 'ldx', ldx, cols);
      requireLd(name, 'ldy', ldy, rows);
      reads(name, 'rowStarts', rowStarts, rowStartsOffset, count + 1);
      requireRowStarts(name, 'rowStarts', rowStarts, rowStartsOffset, count);
      reads(name, 'x', x, xOffset, groupRows(rowStarts, rowStartsOffset, count, cols, ldx));
      writes(name, 'y', y, yOffset, groupRows(rowStarts, rowStartsOffset, count, rows, ldy));
      forGroups(rowStarts, rowStartsOffset, count, (g, _, m) => {
        if (m > 0) readsMatrix(name, own, g);
      });
      requireApart(name);
      forGroups(rowStarts, rowStartsOffset, count, (g, first, m) => {
        if (m === 0) return;
        const [xg, yg] = [xOffset + first * ldx, yOffset + first * ldy];
        multiply(own, g, m, alpha, x, xg, ldx, beta, y, yg, ldy);
      });
    },
  },

  gatherStored: {
    signature: `matrices:stored index count ids:ints idsOffset out:floats outOffset ldOut`,
    run(matrices, index, count, ids, idsOffset, out, outOffset, ldOut) {
      const name = 'gatherStored';
      const own = matrices as ReferenceStored;
      requireIndex(name, own, index);
      requireLd(name, 'ldOut', ldOut, own.cols);
      readsMatrix(name, own, index);
      reads(name, 'ids', ids, idsOffset, count);
      writes(name, 'out', out, outOffset, matrix(count, own.cols, ldOut));
      requireIndices(name, 'ids', ids, idsOffset, count, own.rows);
      requireApart(name);
      const rowBytes = storedBytes(own.type, own.cols);
      for (let i = 0; i < count; i++) {
        const at = ids[idsOffset + i] * rowBytes;
        widenInto(own.type, own.parts[index], at, own.cols, out, outOffset + i * ldOut);
      }
    },
  },

  quantize: {
    signature: `type:type rows cols x:floats xOffset ldx bytes:bytes bytesOffset`,
    run(type, rows, cols, x, xOffset, ldx, bytes, bytesOffset) {
      const name = 'quantize';
      requireStorageType(name, type);
      requireWholeBlocks(name, type, cols);
      requireLd(name, 'ldx', ldx, cols);
      const rowBytes = storedBytes(type, cols);
      reads(name, 'x', x, xOffset, matrix(rows, cols, ldx));
      writes(name, 'bytes', bytes, bytesOffset, rows * rowBytes);
      requireApart(name);
      for (let r = 0; r < rows; r++) {
        quantizeRow(type, x, xOffset + r * ldx, cols, bytes, bytesOffset + r * rowBytes);
      }
    },
  },

  dequantize: {
    signature: `type:type rows cols bytes:bytes bytesOffset out:floats outOffset ldOut`,
    run(type, rows, cols, bytes, bytesOffset, out, outOffset, ldOut) {
      const name = 'dequantize';
      requireStorageType(name, type);
      requireWholeBlocks(name, type, cols);
      requireLd(name, 'ldOut', ldOut, cols);
      const rowBytes = storedBytes(type, cols);
      reads(name, 'bytes', bytes, bytesOffset, rows * rowBytes);
      writes(name, 'out', out, outOffset, matrix(rows, cols, ldOut));
      requireApart(name);
      for (let r = 0; r < rows; r++) {
        widenInto(type, bytes, bytesOffset + r * rowBytes, cols, out, outOffset + r * ldOut);
      }
    },
  },
};
