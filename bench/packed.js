'use strict';
/**
 * Compares products by a packed matrix with those by the plain matrix, in turns. Prints as Markdown the ratio of their times by
 * the rows of x, with one matrix, which the caches hold, and with more matrices than they hold.
 *
 *   node bench/packed.js --threads 1
 */
const { addBackendOptions, applyBackendOptions, command, start } = require('./lib/command');
const { median } = require('./lib/stats');

const SHAPES = [
  [64, 64],
  [128, 64],
  [256, 256],
  [1024, 256],
  [768, 768],
  [4096, 768],
];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 256];
const TRIALS = 15;
/** As many elements as no cache holds. */
const COLD = 2 ** 24;
/** Approximate multiply-adds of a trial. */
const WORK = 1e7;

start(async () => {
  const program = command('packed.js', 'Compares products by packed weights with those by plain ones.');
  applyBackendOptions(addBackendOptions(program).parse().opts());
  const kernels = require('../dist/backend').getKernels();
  const { backend, instructionSet, threads } = kernels.info;
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const table = [line(['W', 'from', ...ROWS.map((rows) => `${rows} rows`)])];
  table.push(line(['---', '---', ...ROWS.map(() => '---:')]));
  for (const [n, k] of SHAPES) {
    for (const [from, elements] of Object.entries({ cache: n * k, memory: COLD })) {
      const ratios = ratiosOf(kernels, n, k, Math.ceil(elements / (n * k)));
      table.push(line([`${n} x ${k}`, from, ...ratios.map((ratio) => ratio.toFixed(2))]));
    }
  }
  process.stdout.write(`${backend}, ${instructionSet}, threads: ${threads}\n\n${table.join('\n')}\n`);
});

function array(kernels, size) {
  const all = new Float32Array(size + 16);
  kernels.adviseHugePages(all);
  return all.subarray(kernels.alignmentPadding(all)).fill(0.01);
}

/** Time by packed matrices over time by plain ones, for each number of rows. */
function ratiosOf(kernels, n, k, matrices) {
  const size = kernels.packedSize(n, k);
  if (size === 0) return ROWS.map(() => Number.NaN);
  const plain = array(kernels, matrices * n * k);
  const packed = array(kernels, matrices * size);
  kernels.packWeights(plain, 0, k, n * k, matrices, n, k, packed, 0);
  return ROWS.map((m) => {
    const x = array(kernels, m * k);
    const y = array(kernels, m * n);
    const products = [
      (i) => kernels.sgemm(false, true, m, n, k, 1, x, 0, k, plain, i * n * k, k, 0, y, 0, n),
      (i) => kernels.sgemmPacked(m, n, k, 1, x, 0, k, packed, i * size, 0, y, 0, n),
    ];
    const runs = Math.max(2, Math.ceil(WORK / (m * n * k)));
    const next = [0, 0];
    const timeOf = (which) => {
      const began = process.hrtime.bigint();
      for (let i = 0; i < runs; i++) products[which](next[which]++ % matrices);
      return Number(process.hrtime.bigint() - began);
    };
    for (const which of [0, 1]) timeOf(which);
    const times = Array.from({ length: TRIALS }, () => [timeOf(0), timeOf(1)]);
    return median(times.map(([, byPacked]) => byPacked)) / median(times.map(([byPlain]) => byPlain));
  });
}
