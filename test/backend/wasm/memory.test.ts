/** WebAssembly's memory, which holds a model's arrays and which threads share. */
import { describe, expect, it } from 'vitest';
import { loadWasmKernels } from '../../../src/backend/wasm';
import { WasmHeap } from '../../../src/backend/wasm/heap';
import { ROOT, runNode, WITHOUT_WASM as skip } from '../child';

const MIB = 1 << 20;

/** A memory without an engine: the heap asks for its size and grows it. */
function heapOf(maxBytes: number): WasmHeap {
  const pages = maxBytes / 65536;
  return new WasmHeap(new WebAssemblyMemory({ initial: 1, maximum: pages, shared: true }), maxBytes);
}
const { Memory: WebAssemblyMemory } = (
  globalThis as unknown as { WebAssembly: { Memory: new (limits: object) => never } }
).WebAssembly;

describe('the heap in a WebAssembly memory', () => {
  it('hands out zeroed blocks, 64-byte aligned and apart', () => {
    const heap = heapOf(8 * MIB);
    const blocks = [1, 64, 65, 3 * MIB].map((bytes) => heap.allocate(bytes));
    expect(blocks.map((at) => at % 64)).toEqual([0, 0, 0, 0]);
    const sorted = [...blocks].sort((a, b) => a - b);
    expect(sorted[1] - sorted[0]).toBeGreaterThanOrEqual(64);
    expect(new Set(blocks).size).toBe(4);
  });

  it('joins what was freed, so that a memory of four parts holds the whole again', () => {
    const heap = heapOf(4 * MIB);
    const part = MIB - 65536;
    const blocks = [0, 1, 2, 3].map(() => heap.allocate(part));
    expect(() => heap.allocate(MIB)).toThrow(expect.objectContaining({ code: 'SGEMOE_MEMORY' }));
    for (const i of [2, 0, 3, 1]) heap.release(blocks[i]);
    expect(heap.usedBytes).toBe(0);
    expect(heap.largestBytes).toBeGreaterThanOrEqual(4 * part);
    expect(heap.allocate(4 * part)).toBe(blocks[0]);
  });

  it('frees a block once: an invalid address does nothing', () => {
    const heap = heapOf(4 * MIB);
    const at = heap.allocate(1000);
    heap.release(at);
    heap.release(at);
    heap.release(12345);
    expect(heap.allocate(500)).toBe(at);
    expect(heap.allocate(500)).not.toBe(at);
  });
});

describe.skipIf(skip)("WebAssembly's arrays", () => {
  const kernels = skip ? null! : loadWasmKernels();
  const { memory } = kernels ?? {};

  it('stay valid, with their contents, when the memory grows', () => {
    const early = memory.floats(100).fill(7);
    const before = early.buffer.byteLength;
    const large = memory.floats((64 * MIB) / 4);
    expect(large.buffer.byteLength).toBeGreaterThan(before);
    kernels.scale(early, 0, 100, 2);
    expect(early.every((value) => value === 14)).toBe(true);
    memory.release(large);
  });

  it('are passed without a copy: what a call writes through one view, another view of the place sees', () => {
    const x = memory.floats(1000).fill(1);
    const again = new Float32Array(x.buffer, x.byteOffset, x.length);
    const used = memory.available().bytes;
    kernels.scale(x.subarray(500), 0, 500, 3);
    expect(again[499]).toBe(1);
    expect(again[500]).toBe(3);
    expect(memory.available().bytes).toBeGreaterThan(used * 0.5);
  });

  it('mix with outside arrays, of which only the written part changes', () => {
    const a = memory.floats(4).fill(1);
    const outside = Float32Array.of(9, 1, 2, 3, 4, 9);
    const c = new Float32Array(new SharedArrayBuffer(24)).fill(5);
    kernels.sgemm(false, false, 1, 2, 2, 1, a, 0, 2, outside, 1, 2, 0, c, 2, 2);
    expect([...c]).toEqual([5, 5, 4, 6, 5, 5]);
    expect([...outside]).toEqual([9, 1, 2, 3, 4, 9]);
  });

  it('are zeroed, also in memory that was used before', () => {
    const first = memory.floats(5000).fill(3);
    const at = first.byteOffset;
    memory.release(first);
    const second = memory.floats(5000);
    expect(second.byteOffset).toBe(at);
    expect(second.every((value) => value === 0)).toBe(true);
  });

  it('that other threads may hold are not given out again', () => {
    const first = memory.floats(7000, true);
    memory.keep(first);
    memory.release(first);
    expect(memory.floats(7000).byteOffset).not.toBe(first.byteOffset);
  });

  it('beyond what 32 bits address are refused beforehand, with a code', () => {
    expect(() => memory.floats(2 ** 30)).toThrow(expect.objectContaining({ code: 'SGEMOE_MEMORY' }));
    expect(memory.available().bytes).toBeLessThan(2 ** 32);
  });

  it('are unharmed by a call that fails: the next ones compute', () => {
    for (let i = 0; i < 3000; i++) {
      expect(() => kernels.scale(memory.floats(1), 0, 2, 1)).toThrow(RangeError);
    }
    const x = Float32Array.of(2, 3);
    kernels.scale(x, 0, 2, 10);
    expect([...x]).toEqual([20, 30]);
  });
});

describe.skipIf(skip)('a process that computes in WebAssembly', () => {
  const env = { SGEMOE_BACKEND: 'wasm' };

  it('shares a model with its threads, which compute on the same weights', async () => {
    const script = `
      const { Worker, isMainThread, workerData, parentPort } = require('node:worker_threads');
      const { MoETransformer, Tensor } = require(${JSON.stringify(ROOT)} + '/dist/index.js');
      const ids = Tensor.fromIds([1, 2, 3], [1, 3]);
      const logits = (model) => [...model.forward(ids).data].slice(0, 5);
      const config = { vocabSize: 16, hiddenDim: 16, nLayers: 1, nHeads: 2, nKvHeads: 1, headDim: 8, nExperts: 2,
        topKExperts: 1, ffnDim: 16, maxSeqLen: 8 };
      const model = MoETransformer.create(config, { seed: 3 });
      const code = \`
        const { workerData, parentPort } = require('node:worker_threads');
        const { MoETransformer, Tensor, backendInfo } = require(\${JSON.stringify(${JSON.stringify(ROOT)} + '/dist/index.js')});
        const model = MoETransformer.fromShared(workerData);
        const ids = Tensor.fromIds([1, 2, 3], [1, 3]);
        const out = () => [...model.forward(ids).data].slice(0, 5);
        parentPort.postMessage([backendInfo().backend, out()]);
        parentPort.once('message', () => { parentPort.postMessage(out()); });
      \`;
      const worker = new Worker(code, { eval: true, workerData: model.share() });
      const first = logits(model);
      worker.once('message', ([backend, theirs]) => {
        for (const [, each] of model.namedParameters()) each.data.fill(0.25);
        const second = logits(model);
        worker.once('message', (after) => {
          console.log(JSON.stringify({ backend, first, theirs, second, after }));
        });
        worker.postMessage(0);
      });
    `;
    const { code, stdout, stderr } = await runNode(script, env);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const { backend, first, theirs, second, after } = JSON.parse(stdout);
    expect(backend).toBe('wasm');
    expect(theirs).toEqual(first);
    expect(second).not.toEqual(first);
    expect(after).toEqual(second);
  });

  it('takes memory back from arrays that are unreachable: more are made, one after another, than it holds', async () => {
    const script = `
      require('node:v8').setFlagsFromString('--expose-gc');
      const gc = require('node:vm').runInNewContext('gc');
      const { memory } = require(${JSON.stringify(ROOT)} + '/dist/backend').getKernels();
      (async () => {
        for (let i = 0; i < 24; i++) {
          memory.floats(48 * 2 ** 20);
          // Callbacks of the collector are tasks of their own.
          gc();
          await new Promise((done) => setTimeout(done, 1));
        }
        console.log('done');
      })();
    `;
    expect(await runNode(script, env)).toMatchObject({ code: 0, stdout: 'done\n', stderr: '' });
  });
});
