'use strict';
const fs = require('node:fs');
const os = require('node:os');
const { getKernels } = require('../../dist/backend');
const { normals } = require('./normals');

const PEAK_SIZES = [512, 768, 1024];
const REPEATS = 8;
/** Size of the last cache if the system doesn't tell it. */
const USUAL_CACHE_BYTES = 32 * 2 ** 20;
/** Size for plain TypeScript, which is far from the memory's speed and would otherwise need minutes. */
const REFERENCE_BYTES = 4 * 2 ** 20;

/**
 * The best rates at which this process gets the machine to compute and to move data, with the threads of its pool:
 * - flops: the fastest of some large matmuls
 * - bytes: the fastest of a sum of squares (reads), a scaling and an addition (read and write), over `streamBytes()`
 *
 * They are the library's best rates, not the hardware's limits.
 * @type {{ flops: number, bytes: number } | undefined}
 */
let measured;

function peaks() {
  measured ??= { flops: matmulRate(), bytes: streamRate() };
  return measured;
}

function matmulRate() {
  const kernels = getKernels();
  const sizes = kernels.info.backend === 'reference' ? [128] : PEAK_SIZES;
  return Math.max(
    ...sizes.map((n) => {
      const [a, b, c] = [
        normals(kernels, n * n),
        normals(kernels, n * n, { stream: 1 }),
        new Float32Array(n * n),
      ];
      const run = () => kernels.sgemm(false, false, n, n, n, 1, a, 0, n, b, 0, n, 0, c, 0, n);
      return (2 * n ** 3) / fastest(run);
    }),
  );
}

function streamRate() {
  const kernels = getKernels();
  const n = streamBytes() / 8;
  const [x, y] = [normals(kernels, n), normals(kernels, n, { stream: 1 })];
  return Math.max(
    (4 * n) / fastest(() => kernels.sumSquares(x, 0, n)),
    (8 * n) / fastest(() => kernels.scale(x, 0, n, -1)),
    (12 * n) / fastest(() => kernels.axpy(n, 1e-6, x, 0, y, 0)),
  );
}

/** Seconds of the fastest of some runs. */
function fastest(run) {
  run();
  let best = Infinity;
  for (let i = 0; i < REPEATS; i++) {
    const before = process.hrtime.bigint();
    run();
    best = Math.min(best, Number(process.hrtime.bigint() - before));
  }
  return best / 1e9;
}

/**
 * Bytes that no cache holds: one and a half times the last one, at least 64 MiB, at most a quarter of the free memory;
 * a multiple of 1 MiB.
 */
function streamBytes() {
  if (getKernels().info.backend === 'reference') return REFERENCE_BYTES;
  const wanted = Math.max(64 * 2 ** 20, 1.5 * lastCacheBytes());
  return Math.floor(Math.min(wanted, os.freemem() / 4) / 2 ** 20) * 2 ** 20;
}

function lastCacheBytes() {
  try {
    const text = fs.readFileSync('/sys/devices/system/cpu/cpu0/cache/index3/size', 'utf8');
    const [, size, unit] = /^(\d+)([KM])/.exec(text) ?? [];
    return size === undefined ? USUAL_CACHE_BYTES : Number(size) * (unit === 'K' ? 2 ** 10 : 2 ** 20);
  } catch {
    return USUAL_CACHE_BYTES;
  }
}

module.exports = { peaks, streamBytes };
