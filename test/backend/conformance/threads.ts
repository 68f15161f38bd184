import { afterAll, describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { storedBytes } from '../../../src/base/storageTypes';
import { Dice, expectThrows, hashBits } from './harness';

/** With 33, large products are cut finer than with few threads. */
const COUNTS = [1, 2, 33];

/** Large enough that a native backend shares the work; each returns the arrays that it has written. */
const WORK: Record<string, (k: Kernels, dice: Dice) => (Float32Array | Int32Array)[]> = {
  sgemm: (k, dice) => {
    const [m, n, d] = [301, 260, 129];
    const c = new Float32Array(m * n);
    k.sgemm(false, true, m, n, d, 1, floats(dice, m * d), 0, d, floats(dice, n * d), 0, d, 0, c, 0, n);
    return [c];
  },
  'sgemm in blocks of both operands': (k, dice) => {
    const [m, n, d] = [260, 253, 261];
    const a = floats(dice, m * d),
      b = floats(dice, n * d),
      c = new Float32Array(m * n),
      other = c.slice();
    k.sgemm(false, true, m, n, d, 1, a, 0, d, b, 0, d, 0, c, 0, n);
    k.sgemm(true, false, m, n, d, 1, a, 0, m, b, 0, n, 0, other, 0, n);
    return [c, other];
  },
  'sgemm of large operands': (k, dice) => {
    const [small, large, d] = [300, 700, 330];
    const a = floats(dice, large * d),
      b = floats(dice, small * d);
    const tall = new Float32Array(large * small),
      wide = tall.slice();
    k.sgemm(false, true, large, small, d, 1, a, 0, d, b, 0, d, 0, tall, 0, small);
    k.sgemm(false, true, small, large, d, 1, b, 0, d, a, 0, d, 0, wide, 0, large);
    return [tall, wide];
  },
  'sgemm of few rows': (k, dice) => {
    const [m, n, d] = [2, 4000, 256];
    const c = new Float32Array(m * n);
    k.sgemm(false, true, m, n, d, 1, floats(dice, m * d), 0, d, floats(dice, n * d), 0, d, 0, c, 0, n);
    return [c];
  },
  'sgemm over a long depth': (k, dice) => {
    const [m, n, d] = [64, 48, 3000];
    const c = new Float32Array(m * n);
    k.sgemm(true, false, m, n, d, 1, floats(dice, m * d), 0, m, floats(dice, n * d), 0, n, 0, c, 0, n);
    return [c];
  },
  'grouped matmuls': (k, dice) => {
    const [groups, n, d] = [4, 96, 128],
      starts = new Int32Array([0, 300, 301, 301, 640]);
    const a = floats(dice, 640 * d),
      b = floats(dice, groups * n * d),
      c = new Float32Array(640 * n);
    const grad = new Float32Array(groups * d * n);
    k.sgemmGrouped(true, groups, starts, 0, n, d, 1, a, 0, d, b, 0, d, n * d, 0, c, 0, n);
    k.sgemmGroupedTransA(groups, starts, 0, d, n, 1, a, 0, d, c, 0, n, 0, grad, 0, n, d * n);
    return [c, grad];
  },
  'grouped gradients of large weights': (k, dice) => {
    const [m, n, starts] = [330, 300, new Int32Array([0, 520, 521, 1050])];
    const a = floats(dice, 1050 * m),
      b = floats(dice, 1050 * n),
      grad = new Float32Array(3 * m * n);
    k.sgemmGroupedTransA(3, starts, 0, m, n, 1, a, 0, m, b, 0, n, 0, grad, 0, n, m * n);
    return [grad];
  },
  'products of mixed precision': (k, dice) => {
    const [m, n, d] = [260, 253, 261];
    const [groups, starts] = [3, new Int32Array([0, 100, 101, m])];
    const a = floats(dice, m * d),
      b = floats(dice, groups * n * d),
      c = new Float32Array(m * n),
      many = c.slice(),
      grad = new Float32Array(groups * d * n);
    k.gemmBfloat16(false, true, m, n, d, 1, a, 0, d, b, 0, d, 0, c, 0, n);
    k.gemmBfloat16Grouped(true, groups, starts, 0, n, d, 1, a, 0, d, b, 0, d, n * d, 0, many, 0, n);
    k.gemmBfloat16GroupedTransA(groups, starts, 0, d, n, 1, a, 0, d, c, 0, n, 0, grad, 0, n, d * n);
    return [c, many, grad];
  },
  'products by packed weights': (k, dice) => {
    const [groups, n, d] = [4, 96, 128],
      starts = new Int32Array([0, 300, 301, 301, 640]);
    const size = k.packedSize(n, d);
    const a = floats(dice, 640 * d),
      b = floats(dice, groups * n * d);
    const packed = new Float32Array(groups * size),
      one = new Float32Array(640 * n),
      many = one.slice();
    if (size === 0) return [];
    k.packWeights(b, 0, d, n * d, groups, n, d, packed, 0);
    k.sgemmPacked(640, n, d, 1, a, 0, d, packed, 0, 0, one, 0, n);
    k.sgemmGroupedPacked(groups, starts, 0, n, d, 1, a, 0, d, packed, 0, 0, many, 0, n);
    return [packed, one, many];
  },
  'products by stored matrices': (k, dice) => storedProducts(k, dice, 5, [0, 2, 2, 5]),
  'products of many rows by stored matrices': (k, dice) => storedProducts(k, dice, 301, [0, 210, 230, 301]),
  'attention of a batch': (k, dice) => attention(k, dice, [2, 150, 4, 2, 32]),
  'attention of a long sequence': (k, dice) => attention(k, dice, [1, 530, 2, 1, 16]),
  'attention of a sequence in many parts': (k, dice) => attention(k, dice, [1, 1100, 1, 1, 40]),
  'attention of one query to a long cache': (k, dice) => attention(k, dice, [1, 1, 8, 8, 64], 1499),
  'attention of one query to a long stored cache': (k, dice) => {
    const [heads, dim, keys] = [8, 64, 1500];
    const [q, starts, lengths] = [
      floats(dice, heads * dim),
      new Int32Array([keys - 1]),
      new Int32Array([keys]),
    ];
    const numbers = floats(dice, keys * heads * dim);
    return (['float16', 'q8_0'] as const).flatMap((type) => {
      const ld = storedBytes(type, heads * dim);
      const [bytes, out, lse] = [
        new Uint8Array(keys * ld),
        new Float32Array(heads * dim),
        new Float32Array(heads),
      ];
      k.quantize(type, keys, heads * dim, numbers, 0, heads * dim, bytes, 0);
      const shape = [1, 1, heads, heads, dim, 0.2] as const;
      const [cache, result] = [[bytes, 0, ld, 0] as const, [out, 0, heads * dim, lse, 0] as const];
      k.attentionForwardStored(
        q,
        0,
        q.length,
        type,
        ...cache,
        ...cache,
        ...result,
        starts,
        0,
        lengths,
        0,
        ...shape,
      );
      return [out, lse];
    });
  },
  'rows and norms': (k, dice) => {
    const [rows, cols] = [700, 300];
    const x = floats(dice, rows * cols),
      dy = floats(dice, rows * cols),
      gamma = floats(dice, cols);
    const y = x.slice(),
      norm = x.slice(),
      invRms = new Float32Array(rows),
      dx = x.slice();
    const dGamma = new Float32Array(cols);
    k.softmaxForward(x, 0, y, 0, rows, cols);
    k.rmsNormForward(x, 0, cols, gamma, 0, norm, 0, cols, invRms, 0, rows, cols, 1e-6);
    k.rmsNormBackward(
      x,
      0,
      cols,
      gamma,
      0,
      invRms,
      0,
      dy,
      0,
      cols,
      dx,
      0,
      cols,
      false,
      dGamma,
      0,
      rows,
      cols,
    );
    return [y, norm, invRms, dx, dGamma];
  },
  'swiglu, exp and silu': (k, dice) => {
    const [rows, ffn] = [500, 400];
    const gateUp = floats(dice, rows * 2 * ffn),
      y = floats(dice, rows * ffn),
      dGateUp = gateUp.slice();
    const exps = gateUp.slice(),
      silus = gateUp.slice();
    k.swigluBackward(gateUp, 0, y, 0, dGateUp, 0, rows, ffn);
    k.swigluForward(gateUp, 0, y, 0, rows, ffn);
    k.exp(exps, 0, exps, 0, exps.length);
    k.silu(silus, 0, silus, 0, silus.length);
    return [y, dGateUp, exps, silus];
  },
  routing: (k, dice) => {
    const [tokens, experts, topK] = [5000, 16, 2];
    const logits = floats(dice, tokens * experts),
      probs = logits.slice(),
      lse = new Float32Array(tokens);
    const weights = new Float32Array(tokens * topK),
      means = new Float32Array(experts);
    const dLogits = logits.slice();
    const ints = (n: number): Int32Array => new Int32Array(n);
    const indices = ints(tokens * topK),
      slotToToken = ints(tokens * topK),
      slots = ints(tokens * topK);
    const starts = ints(experts + 1);
    k.routeForward(
      logits,
      0,
      null,
      0,
      probs,
      0,
      lse,
      0,
      indices,
      0,
      weights,
      0,
      starts,
      0,
      slotToToken,
      0,
      slots,
      0,
      means,
      0,
      tokens,
      experts,
      topK,
      true,
    );
    const dWeights = floats(dice, tokens * topK);
    k.routeBackward(
      probs,
      0,
      lse,
      0,
      indices,
      0,
      weights,
      0,
      dWeights,
      0,
      starts,
      0,
      dLogits,
      0,
      tokens,
      experts,
      topK,
      true,
      0.1,
      0.1,
    );
    return [probs, lse, weights, means, dLogits, indices, slotToToken, slots, starts];
  },
  'gather, scatter and embedding': (k, dice) => {
    const [tokens, topK, cols, vocab] = [1500, 2, 128, 50];
    const table = floats(dice, vocab * cols),
      ids = dice.ints(tokens, vocab);
    const rows = new Float32Array(tokens * cols);
    k.gatherRows(table, 0, vocab, ids, 0, rows, 0, tokens, cols);
    const x = floats(dice, tokens * topK * cols),
      weights = floats(dice, tokens * topK);
    const slots = dice.permutation(tokens * topK),
      dx = x.slice(),
      dWeights = weights.slice();
    k.scatterAddRowsBackward(
      rows,
      0,
      x,
      0,
      tokens * topK,
      slots,
      0,
      weights,
      0,
      dx,
      0,
      dWeights,
      0,
      tokens,
      topK,
      cols,
    );
    k.scatterAddRows(x, 0, tokens * topK, slots, 0, weights, 0, rows, 0, tokens, topK, cols);
    k.embeddingBackward(rows, 0, ids, 0, table, 0, vocab, tokens, cols);
    return [rows, dx, dWeights, table];
  },
  'loss and optimizer': (k, dice) => {
    const [rows, cols] = [300, 1000],
      n = rows * cols;
    const logits = floats(dice, n),
      losses = new Float32Array(rows),
      targets = dice.ints(rows, cols);
    const total = k.crossEntropy(logits, 0, targets, 0, losses, 0, rows, cols, -100, 1 / rows, true);
    const squares = k.sumSquares(logits, 0, n);
    const param = floats(dice, n),
      m = floats(dice, n),
      v = floats(dice, n).map(Math.abs);
    const normals = new Float32Array(n);
    k.adamw(param, 0, logits, 0, m, 0, v, 0, n, 1e-3, 0.9, 0.95, 1e-8, 0.1, 0.1, 0.05, 1);
    k.scale(m, 0, n, 0.3);
    k.axpy(n, 0.5, m, 0, v, 0);
    k.randomNormal(normals, 0, n, 1, 2, 3, 1);
    // The float64 results, bit for bit.
    return [
      logits,
      losses,
      param,
      m,
      v,
      normals,
      new Float32Array(new Float64Array([total, squares]).buffer),
    ];
  },
};

/** Plain and grouped by `starts`, and the numbers. */
function storedProducts(k: Kernels, dice: Dice, m: number, starts: readonly number[]): Float32Array[] {
  const [rows, cols] = [900, 512];
  const x = floats(dice, m * cols),
    rowStarts = Int32Array.from(starts);
  return (['bfloat16', 'q8_0', 'q4_k'] as const).flatMap((type) => {
    const bytes = new Uint8Array(rows * storedBytes(type, cols));
    k.quantize(type, rows, cols, floats(dice, rows * cols), 0, cols, bytes, 0);
    const matrices = k.storedMatrices(type, rows, cols, [bytes, bytes, bytes]);
    const plain = new Float32Array(m * rows),
      grouped = plain.slice(),
      wide = new Float32Array(rows * cols);
    k.multiplyStored(matrices, 1, m, 1, x, 0, cols, 0, plain, 0, rows);
    k.multiplyStoredGroups(matrices, rowStarts, 0, 1, x, 0, cols, 0, grouped, 0, rows);
    k.dequantize(type, rows, cols, bytes, 0, wide, 0, cols);
    return [plain, grouped, wide];
  });
}

function attention(
  k: Kernels,
  dice: Dice,
  [batch, length, heads, kvHeads, dim]: number[],
  past = 0,
): Float32Array[] {
  const rows = batch * length,
    cols = heads * dim,
    kv = kvHeads * dim,
    keys = past + length;
  const q = floats(dice, rows * cols),
    key = floats(dice, batch * keys * kv);
  const value = floats(dice, batch * keys * kv);
  const out = new Float32Array(rows * cols),
    lse = new Float32Array(rows * heads);
  const dOut = floats(dice, rows * cols);
  const dq = out.slice(),
    dk = key.slice(),
    dv = value.slice();
  const starts = new Int32Array(batch).fill(past),
    lengths = new Int32Array(batch).fill(keys);
  k.attentionForward(
    q,
    0,
    cols,
    key,
    0,
    kv,
    keys * kv,
    value,
    0,
    kv,
    keys * kv,
    out,
    0,
    cols,
    lse,
    0,
    starts,
    0,
    lengths,
    0,
    batch,
    length,
    heads,
    kvHeads,
    dim,
    0.2,
  );
  k.attentionBackward(
    q,
    0,
    cols,
    key,
    0,
    kv,
    keys * kv,
    value,
    0,
    kv,
    keys * kv,
    out,
    0,
    cols,
    lse,
    0,
    dOut,
    0,
    dq,
    0,
    dk,
    0,
    dv,
    0,
    starts,
    0,
    lengths,
    0,
    batch,
    length,
    heads,
    kvHeads,
    dim,
    0.2,
  );
  return [out, lse, dq, dk, dv];
}

function floats(dice: Dice, n: number): Float32Array {
  return Float32Array.from(dice.values(n));
}

export function threadConformance(kernels: () => Kernels): void {
  describe('threads', () => {
    afterAll(() => kernels().setThreads(2));

    for (const [name, work] of Object.entries(WORK)) {
      it(`give bit-identical results at 1, 2 and 33, and again: ${name}`, () => {
        const hashes = [...COUNTS, ...COUNTS].map((threads) => {
          kernels().setThreads(threads);
          return work(kernels(), new Dice(9))
            .map((array) => hashBits(array as Float32Array))
            .join();
        });
        expect(new Set(hashes).size, hashes.join('\n')).toBe(1);
      });
    }

    it('are 1..256, and anything else is refused', () => {
      const call = (value: unknown): void => kernels().setThreads(value as number);
      for (const good of [1, 256]) call(good);
      for (const bad of [0, -1, 257, 1.5, Number.NaN, 2 ** 53]) {
        expectThrows(
          `setThreads(${bad})`,
          () => call(bad),
          RangeError,
          /^setThreads: threads must be an integer/,
        );
      }
      for (const bad of ['2', null, undefined, {}]) {
        expectThrows(
          `setThreads(${bad})`,
          () => call(bad),
          TypeError,
          /^setThreads: threads must be a number, got /,
        );
      }
    });
  });
}
