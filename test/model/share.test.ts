import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { ModelConfig, MoETransformer } from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { expectRelative, sameBits } from '../helpers/close';
import { EVERYTHING, smallModel } from '../helpers/smallModel';

const IDS = [1, 2, 3, 4, 5];
const logitsOf = (model: MoETransformer) => model.forwardIds(IDS, 1, IDS.length).data;

/** Another thread computes with a shared model. */
function inWorker(shared: unknown): Promise<{ logits: Float32Array; packedBytes: number }> {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { MoETransformer } = require(${JSON.stringify(resolve(__dirname, '../..'))});
    const model = MoETransformer.fromShared(workerData);
    const logits = model.forwardIds(${JSON.stringify(IDS)}, 1, ${IDS.length}).data;
    parentPort.postMessage({ logits, packedBytes: model.packedBytes });`;
  const worker = new Worker(code, { eval: true, workerData: shared });
  return new Promise((done, fail) => worker.on('message', done).on('error', fail));
}

test.each([false, true])('a worker computes with the same memory, frozen: %s', async (frozen) => {
  // The model is wide enough that weights are packed.
  const model = MoETransformer.create(ModelConfig.tiny({ ...EVERYTHING, vocabSize: 64 }));
  if (frozen) model.freeze({ pack: true });
  const { logits, packedBytes } = await inWorker(model.share());
  expect(sameBits(logits, logitsOf(model))).toBe(true);
  expect(packedBytes).toBe(model.packedBytes);
});

test('weights are not copied: what one side writes the other sees', () => {
  const model = smallModel();
  const twin = MoETransformer.fromShared(model.share());
  expect(twin.config).toEqual(model.config);
  twin.parameter('model.norm.weight').data[3] = 2;
  expect(model.parameter('model.norm.weight').data[3]).toBe(2);
  twin.blocks[1].moe!.router.selectionBias.data.set([0.5, -0.5]);
  expect(Array.from(model.blocks[1].moe!.router.selectionBias.data)).toEqual([0.5, -0.5, 0]);
  expect(sameBits(logitsOf(twin), logitsOf(model))).toBe(true);
});

test('packed copies are shared by the same kernels, made anew for others', () => {
  const model = MoETransformer.create(ModelConfig.tiny({ vocabSize: 64 }));
  model.freeze({ pack: true });
  const twin = MoETransformer.fromShared(model.share());
  expect(twin.frozen).toBe(true);
  for (const [i, packed] of twin.store.packed!.entries()) {
    if (packed.length > 0) expect(packed.buffer).toBe(model.store.packed![i].buffer);
  }
  const other = MoETransformer.fromShared(model.share(), { kernels: createReferenceKernels() });
  expect(other.frozen).toBe(true);
  expectRelative('logits', logitsOf(other), logitsOf(model), 2e-5);
});

test('a frozen model without packed copies is shared without, on every kernel', () => {
  const model = smallModel();
  model.freeze();
  for (const kernels of [undefined, createReferenceKernels()]) {
    const twin = MoETransformer.fromShared(model.share(), { kernels });
    expect([twin.frozen, twin.packedBytes]).toEqual([true, 0]);
  }
});

test('a handle that share did not make is refused', () => {
  const shared = smallModel().share();
  const from = (changes: object) => () => MoETransformer.fromShared({ ...shared, ...changes });
  expect(from({ shards: undefined })).toThrow(/shared must be what model.share\(\) gives/);
  expect(from({ shards: [] })).toThrow(/shards must be Float32Arrays on SharedArrayBuffers/);
  expect(from({ shards: [shared.shards[0].slice()] })).toThrow(TypeError);
  expect(from({ shards: [shared.shards[0].subarray(1)] })).toThrow(TypeError);
  expect(from({ bufferData: new Float32Array(32) })).toThrow(TypeError);
  expect(from({ config: { ...shared.config, vocab_size: 21 } })).toThrow(TypeError);
});
