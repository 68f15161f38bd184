'use strict';
/**
 * node bench/cache.js [--threads 1,2] [--seconds 2]
 *
 * Attention of one new token of each sequence to a long key-value cache, the part of decoding that grows with the text, by the
 * types in which keys and values are kept. A line for each shape and type: the time of a layer, the bytes of keys and values in
 * each second, and the time's ratio to float32's. Each sample is one call, after others whose caches are as large; minima of many,
 * taken in turn. On one thread they are processor time.
 */
const { createKernels } = require('../dist/backend');
const { KV_CACHE_DTYPES, storedBytes } = require('../dist/base/storageTypes');
const { minima } = require('./lib/inTurn');

/** Heads with one key head each, two, three and four; and several sequences. */
const SHAPES = [
  { sequences: 1, nHeads: 8, nKvHeads: 8, headDim: 64, tokens: 32768 },
  { sequences: 1, nHeads: 16, nKvHeads: 8, headDim: 128, tokens: 32768 },
  { sequences: 1, nHeads: 9, nKvHeads: 3, headDim: 64, tokens: 65536 },
  { sequences: 1, nHeads: 16, nKvHeads: 4, headDim: 64, tokens: 32768 },
  { sequences: 8, nHeads: 16, nKvHeads: 8, headDim: 64, tokens: 4096 },
];

main(process.argv.slice(2));

function main(argv) {
  const options = parse(argv);
  const kernels = createKernels();
  console.log(JSON.stringify(kernels.info));
  for (const threads of options.threads) {
    kernels.setThreads(threads);
    for (const shape of SHAPES) {
      const { sequences, nHeads, nKvHeads, headDim, tokens } = shape;
      console.log(
        `threads ${threads}: ${sequences} x ${tokens} tokens, ${nHeads} heads on ${nKvHeads}, head dim ${headDim}`,
      );
      const cases = KV_CACHE_DTYPES.map((dtype) => cacheCase(kernels, dtype, shape));
      const best = minima(cases, options.seconds, threads);
      for (const [i, { dtype, bytes }] of cases.entries()) {
        const ms = (best[i] / 1e6).toFixed(2).padStart(8);
        const rate = (bytes / best[i]).toFixed(1).padStart(6);
        console.log(
          `  ${dtype.padEnd(9)}${ms} ms, ${rate} GB/s, ${(best[i] / best[0]).toFixed(2)} x float32`,
        );
      }
    }
  }
}

function parse(argv) {
  const options = { threads: [1, 2], seconds: 2 };
  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i].slice(2);
    if (!(name in options) || argv[i + 1] === undefined) throw new Error(`unknown option ${argv[i]}`);
    options[name] = name === 'threads' ? argv[i + 1].split(',').map(Number) : Number(argv[i + 1]);
  }
  return options;
}

function cacheCase(kernels, dtype, { sequences, nHeads, nKvHeads, headDim, tokens }) {
  const rows = sequences * tokens;
  const [cols, queryCols] = [nKvHeads * headDim, nHeads * headDim];
  const rowBytes = storedBytes(dtype, cols);
  const stored = (stream) => {
    const floats = kernels.memory.floats(rows * cols);
    kernels.randomNormal(floats, 0, floats.length, 1, 2, stream, 1);
    const bytes = new Uint8Array(rows * rowBytes);
    kernels.quantize(dtype, rows, cols, floats, 0, cols, bytes, 0);
    return [bytes, 0, rowBytes, tokens * rowBytes];
  };
  const q = kernels.memory.floats(sequences * queryCols);
  kernels.randomNormal(q, 0, q.length, 1, 2, 5, 1);
  const out = kernels.memory.floats(q.length);
  const lse = kernels.memory.floats(sequences * nHeads);
  const starts = new Int32Array(sequences).fill(tokens - 1);
  const lengths = new Int32Array(sequences).fill(tokens);
  const keysAndValues = [...stored(3), ...stored(4)];
  const sizes = [sequences, 1, nHeads, nKvHeads, headDim, 1 / Math.sqrt(headDim)];
  const places = [...keysAndValues, out, 0, queryCols, lse, 0, starts, 0, lengths, 0, ...sizes];
  return {
    dtype,
    bytes: 2 * rows * rowBytes,
    run: () => kernels.attentionForwardStored(q, 0, queryCols, dtype, ...places),
  };
}
