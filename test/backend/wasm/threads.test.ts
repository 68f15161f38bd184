/** WebAssembly's pool: threads of JavaScript that help the one that computes. */
import { describe, expect, it } from 'vitest';
import { loadWasmInstance } from '../../../src/backend/wasm';
import { ROOT, runNode, WITHOUT_WASM as skip } from '../child';

const SIDE = 512;

describe.skipIf(skip)("WebAssembly's helpers", () => {
  it('take chunks of large operations, and the product keeps its bits', async () => {
    const { kernels, chunksOfHelpers } = loadWasmInstance();
    const [a, b, c] = [0, 1, 2].map((step) =>
      Float32Array.from({ length: SIDE * SIDE }, (_, i) => Math.sin(i * (step + 1))),
    );
    const multiply = () =>
      kernels.sgemm(false, true, SIDE, SIDE, SIDE, 1, a, 0, SIDE, b, 0, SIDE, 0, c, 0, SIDE);
    kernels.setThreads(1);
    multiply();
    const alone = c.slice();
    expect(chunksOfHelpers()).toBe(0);
    kernels.setThreads(3);
    // A thread needs a while to start.
    while (chunksOfHelpers() < 10) {
      c.fill(0);
      multiply();
      expect(c).toEqual(alone);
    }
    kernels.setThreads(1);
    const before = chunksOfHelpers();
    multiply();
    expect(chunksOfHelpers()).toBe(before);
  });
});

/** A process that multiplies until helpers have taken part. */
const HELPED = `
  const { loadWasmInstance } = require(${JSON.stringify(ROOT)} + '/dist/backend/wasm.js');
  const { kernels, chunksOfHelpers } = loadWasmInstance();
  const [a, b, c] = [0, 1, 2].map(() => kernels.memory.floats(${SIDE ** 2}).fill(0.5));
  const multiply = () => kernels.sgemm(false, true, ${SIDE}, ${SIDE}, ${SIDE}, 1, a, 0, ${SIDE}, b, 0, ${SIDE}, 0, c, 0, ${SIDE});
  while (chunksOfHelpers() < 4) multiply();
`;

describe.skipIf(skip)('a process whose helpers wait for work', () => {
  const env = { SGEMOE_THREADS: '3' };

  it('ends by itself, with its own code', async () => {
    const { code, signal, stderr } = await runNode(`${HELPED} process.exitCode = 3;`, env);
    expect({ code, signal, stderr }).toEqual({ code: 3, signal: null, stderr: '' });
  });

  it('ends by process.exit and by an error', async () => {
    expect(await runNode(`${HELPED} process.exit(4);`, env)).toMatchObject({ code: 4, stderr: '' });
    const failed = await runNode(`${HELPED} throw new Error('on purpose');`, env);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('on purpose');
  });

  it('goes on when a worker that computed with helpers of its own is terminated', async () => {
    const script = `
      const { Worker } = require('node:worker_threads');
      ${HELPED}
      const worker = new Worker(${JSON.stringify(`${HELPED} require('node:worker_threads').parentPort.postMessage(0); for (;;) multiply();`)}, { eval: true });
      worker.once('message', async () => {
        await worker.terminate();
        const before = chunksOfHelpers();
        while (chunksOfHelpers() < before + 4) multiply();
        console.log(c.every((value) => value === ${SIDE / 4}));
      });
    `;
    expect(await runNode(script, env)).toMatchObject({ code: 0, stdout: 'true\n', stderr: '' });
  });

  it('says how many threads compute: SGEMOE_THREADS, and what setThreads has set, in all its threads', async () => {
    const script = `
      const { Worker } = require('node:worker_threads');
      process.env.SGEMOE_BACKEND = 'wasm';
      const { backendInfo, setThreads } = require(${JSON.stringify(ROOT)} + '/dist/index.js');
      const first = backendInfo().threads;
      setThreads(5);
      const code = "require('node:worker_threads').parentPort.postMessage(require(" + ${JSON.stringify(JSON.stringify(ROOT))} + " + '/dist/index.js').backendInfo().threads)";
      new Worker(code, { eval: true }).once('message', (threads) => console.log([first, backendInfo().threads, threads].join()));
    `;
    expect(await runNode(script, env)).toMatchObject({ code: 0, stdout: '3,5,5\n', stderr: '' });
  });
});
