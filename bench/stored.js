'use strict';
/**
 * node bench/stored.js [--threads 1,2] [--rows 1,2,4,8,16,64,512] [--types ...] [--megabytes 192] [--seconds 2]
 *
 * Products by stored matrices, beside the rate at which this machine reads memory in order (sumSquares over as many bytes, on as
 * many threads) and beside float32's product of the same shape. The matrices of a type together exceed the caches and are
 * multiplied in turn, as a model's are. A line for each type and number of rows:
 *
 *   GB/s  bytes of weights in each second, and their share of the reading rate: what bounds few rows
 *   GMAC/s  multiply-adds in each nanosecond, and their ratio to float32's: what bounds many rows
 *
 * Each sample is one product; minima of many, taken in turn. On one thread they are processor time, which other work on the
 * machine disturbs less.
 */
const { createKernels } = require('../dist/backend');
const { STORAGE_TYPE_NAMES, storedBytes } = require('../dist/base/storageTypes');
const { minima } = require('./lib/inTurn');

const COLS = 2048;
const ROWS = 2048;

/** Bytes that one sample of reading takes: as much as a matrix of 8 bits. */
const READ_BYTES = ROWS * COLS;
const rate = (value) => value.toFixed(1).padStart(6);

main(process.argv.slice(2));

function main(argv) {
  const options = parse(argv);
  const kernels = createKernels();
  console.log(JSON.stringify(kernels.info));
  for (const threads of options.threads) {
    kernels.setThreads(threads);
    const reading = readingCase(kernels, options.megabytes);
    for (const rows of options.rows) {
      const cases = options.types.map((type) => storedCase(kernels, type, rows, options.megabytes));
      const float32 = float32Case(kernels, rows, options.megabytes);
      const best = minima([reading, float32, ...cases], options.seconds, threads);
      const readRate = reading.bytes / best[0];
      console.log(
        `threads ${threads}, rows ${rows}: memory ${rate(readRate)} GB/s, float32 ${rate(float32.products / best[1])} GMAC/s`,
      );
      for (const [i, { type, bytes, products }] of cases.entries()) {
        const ns = best[2 + i];
        const share = (bytes / ns / readRate).toFixed(2);
        const ratio = (products / ns / (float32.products / best[1])).toFixed(2);
        console.log(
          `  ${type.padEnd(9)}${rate(bytes / ns)} GB/s, ${share} of reading;${rate(products / ns)} GMAC/s, ${ratio} x float32`,
        );
      }
    }
  }
}

function parse(argv) {
  const options = {
    threads: [1, 2],
    rows: [1, 2, 4, 8, 16, 64, 512],
    types: [...STORAGE_TYPE_NAMES],
    megabytes: 192,
    seconds: 2,
  };
  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i].slice(2);
    if (!(name in options) || argv[i + 1] === undefined) throw new Error(`unknown option ${argv[i]}`);
    const words = argv[i + 1].split(',');
    if (name === 'types') options.types = words;
    else options[name] = Array.isArray(options[name]) ? words.map(Number) : Number(words[0]);
  }
  return options;
}

function readingCase(kernels, megabytes) {
  const x = kernels.memory.floats((megabytes << 20) / 4);
  kernels.randomNormal(x, 0, x.length, 1, 2, 3, 1);
  const length = READ_BYTES / 4;
  let at = 0;
  return {
    bytes: READ_BYTES,
    run() {
      kernels.sumSquares(x, at, length);
      at = (at + length) % x.length;
    },
  };
}

/** Matrices of `type` that take `megabytes` together. */
function storedCase(kernels, type, rows, megabytes) {
  const each = ROWS * storedBytes(type, COLS);
  const count = Math.max(1, Math.floor((megabytes << 20) / each));
  const weights = new Float32Array(ROWS * COLS);
  kernels.randomNormal(weights, 0, weights.length, 1, 2, 3, 0.02);
  const one = new Uint8Array(each);
  kernels.quantize(type, ROWS, COLS, weights, 0, COLS, one, 0);
  const floats = kernels.memory.floats(Math.ceil((count * each) / 4));
  const bytes = new Uint8Array(floats.buffer, floats.byteOffset, count * each);
  const parts = Array.from({ length: count }, (_, i) => bytes.subarray(i * each, (i + 1) * each));
  for (const part of parts) part.set(one);
  const matrices = kernels.storedMatrices(type, ROWS, COLS, parts);
  const { x, y } = activations(kernels, rows);
  let index = 0;
  return {
    type,
    bytes: each,
    products: rows * ROWS * COLS,
    run() {
      kernels.multiplyStored(matrices, index, rows, 1, x, 0, COLS, 0, y, 0, ROWS);
      index = (index + 1) % count;
    },
  };
}

/** The product by plain float32 matrices. */
function float32Case(kernels, rows, megabytes) {
  const count = Math.max(1, Math.floor((megabytes << 20) / (4 * ROWS * COLS)));
  const w = kernels.memory.floats(count * ROWS * COLS);
  kernels.randomNormal(w, 0, w.length, 1, 2, 3, 0.02);
  const { x, y } = activations(kernels, rows);
  let index = 0;
  return {
    products: rows * ROWS * COLS,
    run() {
      const at = index * ROWS * COLS;
      kernels.sgemm(false, true, rows, ROWS, COLS, 1, x, 0, COLS, w, at, COLS, 0, y, 0, ROWS);
      index = (index + 1) % count;
    },
  };
}

function activations(kernels, rows) {
  const x = kernels.memory.floats(rows * COLS);
  kernels.randomNormal(x, 0, x.length, 4, 5, 6, 1);
  return { x, y: kernels.memory.floats(rows * ROWS) };
}
