import { type StorageType, storedBytes } from '../../base/storageTypes';
import { widenInto } from '../../base/storedBlocks';
import { matrix, reads, requireApart, writes } from './areas';
import { attendHead, type Call, cacheArea, requireHeads } from './attention';
import {
  type Definitions,
  requireLd,
  requireNonNegative,
  requireStorageType,
  requireWholeBlocks,
} from './checks';

/** Stored keys or values: row j of sequence b begins at byte at + b stride + j ld. */
interface StoredRows {
  readonly data: Uint8Array;
  readonly at: number;
  readonly ld: number;
  readonly stride: number;
}

/** Checks what a call reads of keys or values by its kvLengths. */
function readStored(
  call: Call,
  name: 'k' | 'v',
  { data, at, ld, stride }: StoredRows,
  rowBytes: number,
): void {
  const area = cacheArea(call.kvLengths, call.kvLengthsAt, call.batch, stride, ld, rowBytes);
  reads(call.name, name, data, at, area.end);
}

/** The same rows as floats, sequence behind sequence. */
function widened(call: Call, type: StorageType, rows: StoredRows): Call['k'] {
  const { kvLengths, kvLengthsAt, batch, nKvHeads, headDim } = call;
  const cols = nKvHeads * headDim;
  const longest = Math.max(0, ...kvLengths.subarray(kvLengthsAt, kvLengthsAt + batch));
  const data = new Float32Array(batch * longest * cols);
  for (let b = 0; b < batch; b++) {
    for (let j = 0; j < kvLengths[kvLengthsAt + b]; j++) {
      const from = rows.at + b * rows.stride + j * rows.ld;
      widenInto(type, rows.data, from, cols, data, (b * longest + j) * cols);
    }
  }
  return { data, at: 0, ld: cols, stride: longest * cols };
}

export const attentionStored: Definitions<'attentionForwardStored'> = {
  attentionForwardStored: {
    signature: `q:floats qOffset ldq type:type k:bytes kOffset ldk kBatchStride v:bytes vOffset ldv vBatchStride
      out:floats outOffset ldo lse:floats lseOffset queryStarts:ints queryStartsOffset
      kvLengths:ints kvLengthsOffset batch queryLen nHeads nKvHeads headDim scale:real`,
    run(
      q,
      qOffset,
      ldq,
      type,
      k,
      kOffset,
      ldk,
      kBatchStride,
      v,
      vOffset,
      ldv,
      vBatchStride,
      out,
      outOffset,
      ldo,
      lse,
      lseOffset,
      queryStarts,
      queryStartsOffset,
      kvLengths,
      kvLengthsOffset,
      batch,
      queryLen,
      nHeads,
      nKvHeads,
      headDim,
      scale,
    ) {
      const name = 'attentionForwardStored';
      const none = { data: new Float32Array(0), at: 0, ld: 0, stride: 0 };
      const call: Call = {
        name,
        q: { data: q, at: qOffset, ld: ldq },
        k: none,
        v: none,
        out: { data: out, at: outOffset, ld: ldo },
        lse,
        lseAt: lseOffset,
        queryStarts,
        queryStartsAt: queryStartsOffset,
        kvLengths,
        kvLengthsAt: kvLengthsOffset,
        batch,
        queryLen,
        nHeads,
        nKvHeads,
        headDim,
        scale,
      };
      requireStorageType(name, type);
      requireWholeBlocks(name, type, headDim, 'headDim');
      const keys = { data: k, at: kOffset, ld: ldk, stride: kBatchStride };
      const values = { data: v, at: vOffset, ld: ldv, stride: vBatchStride };
      forwardStored(call, type, keys, values);
    },
  },
};

function forwardStored(call: Call, type: StorageType, keys: StoredRows, values: StoredRows): void {
  const { name, q, out, lse, lseAt, batch, queryLen, nHeads, nKvHeads, headDim } = call;
  const rowBytes = storedBytes(type, nKvHeads * headDim);
  const [rows, cols] = [batch * queryLen, nHeads * headDim];
  requireHeads(name, nHeads, nKvHeads);
  requireLd(name, 'ldq', q.ld, cols);
  requireLd(name, 'ldk', keys.ld, rowBytes);
  requireLd(name, 'ldv', values.ld, rowBytes);
  requireLd(name, 'ldo', out.ld, cols);
  reads(name, 'q', q.data, q.at, matrix(rows, cols, q.ld));
  writes(name, 'out', out.data, out.at, matrix(rows, cols, out.ld));
  writes(name, 'lse', lse, lseAt, rows * nHeads);
  reads(name, 'queryStarts', call.queryStarts, call.queryStartsAt, batch);
  reads(name, 'kvLengths', call.kvLengths, call.kvLengthsAt, batch);
  requireNonNegative(name, 'queryStarts', call.queryStarts, call.queryStartsAt, batch);
  requireNonNegative(name, 'kvLengths', call.kvLengths, call.kvLengthsAt, batch);
  readStored(call, 'k', keys, rowBytes);
  readStored(call, 'v', values, rowBytes);
  if (cols === 0) return;
  requireApart(name);
  const wide: Call = { ...call, k: widened(call, type, keys), v: widened(call, type, values) };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < nHeads; h++) attendHead(wide, b, h);
  }
}
