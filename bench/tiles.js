'use strict';
/**
 * node bench/tiles.js [--threads 1,2] [--seconds 1] [--shapes 64x1024x256,...]
 *
 * What the processor's matrix unit (Intel's AMX) gives, each way in turn in one process:
 *
 *   float32: GFLOP/s of C = A B^T by multiply-adds (SGEMOE_MATMUL=fma) and from split parts on the unit (split), and the
 *   largest error of each over sqrt(k), against float64 on some rows
 *   bfloat16: GFLOP/s of products by matrices stored in bfloat16, without the unit and with it, for many rows
 *
 * Minima of many samples. Without such a unit it says so and ends.
 */
const { performance } = require('node:perf_hooks');
const { createKernels } = require('../dist/backend');
const { loadNativeKernels } = require('../dist/backend/native');

const SHAPES = [
  '64x1024x256',
  '128x512x512',
  '256x256x256',
  '512x512x512',
  '1024x1024x1024',
  '2048x512x512',
  '512x3072x768',
];
const STORED_ROWS = [16, 32, 64, 128, 512, 2048];
const STORED_SIDE = 2048;
const CHECKED_ROWS = 8;

main(process.argv.slice(2));

function main(argv) {
  const options = parse(argv);
  const { matrixUnit } = createKernels().info;
  if (matrixUnit !== 'amx') {
    console.log(
      'This machine has no matrix unit that this process may use (AMX on Linux), so there is nothing to time.',
    );
    return;
  }
  const fma = loadNativeKernels({ backend: 'builtin', matmul: 'fma' });
  const split = loadNativeKernels({ backend: 'builtin', matmul: 'split' });
  console.log(JSON.stringify(split.info));
  for (const threads of options.threads) {
    fma.setThreads(threads);
    console.log(`\nfloat32, ${threads} thread(s), GFLOP/s | largest error over sqrt(k)`);
    for (const shape of options.shapes) console.log(floatRow(fma, split, shape, options.seconds));
    console.log(`\nbfloat16 weights ${STORED_SIDE} x ${STORED_SIDE}, ${threads} thread(s), GFLOP/s`);
    for (const rows of STORED_ROWS) console.log(storedRow(fma, split, rows, options.seconds));
  }
}

function parse(argv) {
  const options = { threads: [1, 2], seconds: 1, shapes: SHAPES };
  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i].slice(2);
    if (!(name in options) || argv[i + 1] === undefined) throw new Error(`unknown option ${argv[i]}`);
    const words = argv[i + 1].split(',');
    options[name] = name === 'threads' ? words.map(Number) : name === 'seconds' ? Number(words[0]) : words;
  }
  return options;
}

function floatRow(fma, split, shape, seconds) {
  const [m, n, k] = shape.split('x').map(Number);
  const a = normals(fma, m * k, 1);
  const b = normals(fma, n * k, 2);
  const c = fma.memory.floats(m * n);
  const run = (kernels) => () => kernels.sgemm(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, c, 0, n);
  const ways = [run(fma), run(split)];
  const rates = bestNs(ways, seconds).map((ns) => (2 * m * n * k) / ns);
  const errors = ways.map((way) => {
    way();
    return largestError(a, b, c, m, n, k).toExponential(1);
  });
  return `${shape.padEnd(16)} fma ${rate(rates[0])}  split ${rate(rates[1])}  ${times(rates)} | ${errors.join('  ')}`;
}

function storedRow(fma, split, rows, seconds) {
  const side = STORED_SIDE;
  const x = normals(fma, rows * side, 3);
  const w = normals(fma, side * side, 4);
  const y = fma.memory.floats(rows * side);
  const bytes = new Uint8Array(2 * side * side);
  fma.quantize('bfloat16', side, side, w, 0, side, bytes, 0);
  const ways = [fma, split].map((kernels) => {
    const matrices = kernels.storedMatrices('bfloat16', side, side, [bytes]);
    return () => kernels.multiplyStored(matrices, 0, rows, 1, x, 0, side, 0, y, 0, side);
  });
  const rates = bestNs(ways, seconds).map((ns) => (2 * rows * side * side) / ns);
  return `${String(rows).padStart(5)} rows  vectors ${rate(rates[0])}  unit ${rate(rates[1])}  ${times(rates)}`;
}

function normals(kernels, count, stream) {
  const x = kernels.memory.floats(count);
  kernels.randomNormal(x, 0, count, 1, 2, stream, 1);
  return x;
}

/** The shortest time of each way, which take turns. */
function bestNs(ways, seconds) {
  const best = ways.map(() => Number.POSITIVE_INFINITY);
  const end = performance.now() + 1000 * seconds;
  do {
    for (const [i, way] of ways.entries()) {
      const start = process.hrtime.bigint();
      way();
      best[i] = Math.min(best[i], Number(process.hrtime.bigint() - start));
    }
  } while (performance.now() < end);
  return best;
}

function largestError(a, b, c, m, n, k) {
  let worst = 0;
  for (let i = 0; i < Math.min(m, CHECKED_ROWS); i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += a[i * k + p] * b[j * k + p];
      worst = Math.max(worst, Math.abs(c[i * n + j] - sum) / Math.sqrt(k));
    }
  }
  return worst;
}

function rate(value) {
  return value.toFixed(0).padStart(5);
}

function times([before, after]) {
  return `${(after / before).toFixed(2)} x`;
}
