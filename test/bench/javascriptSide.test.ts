import { describe, expect, test } from 'vitest';
import { countingKernels, idleKernels, typedArraysOf } from '../../bench/lib/javascriptSide';
import { Decoder, MoETransformer, Tensor, Trainer } from '../../src';
import { getKernels } from '../../src/backend';
import type { Kernels } from '../../src/backend/kernels';
import { SMALL } from '../helpers/smallModel';

const ids = Tensor.fromIds([
  [1, 2, 3, 4, 5],
  [6, 7, 8, 9, 10],
]);

type Step = (model: MoETransformer) => () => unknown;

const forward: Step = (model) => {
  const out = Tensor.zeros([2, 5, SMALL.vocabSize], { dtype: model.kernels.floatType as 'float32' });
  return () => model.forward(ids, { out });
};
const train: Step = (model) => {
  const trainer = new Trainer(model);
  return () => trainer.trainStep(ids, ids);
};
const nextToken: Step = (model) => {
  const logits = new Float32Array(SMALL.vocabSize);
  return () => model.nextTokenLogits([1, 2, 3], logits);
};

/** One sequence gets a part of its prompt, two others a token. */
const decode: Step = (model) => {
  const decoder = new Decoder(model, { slots: 3 });
  const rows = [[1, 2, 3], [4], [5]].map((tokens, slot) => ({ slot, tokens }));
  const logits = new Float32Array(3 * SMALL.vocabSize);
  return () => {
    decoder.step(rows, { logits });
    for (const { slot } of rows) decoder.truncate(slot, 0);
  };
};

/** A step of a model with this many layers; it has already been made once. */
function warm(step: Step, nLayers = 2, kernels: Kernels = getKernels()) {
  const run = step(MoETransformer.create({ ...SMALL, nLayers }, { kernels }));
  run();
  return run;
}

/** Calls of kernels that one more block adds. */
function callsOfBlock(step: Step): number {
  const calls = [2, 3].map((nLayers) => {
    const counter = countingKernels(getKernels());
    const run = warm(step, nLayers, counter.kernels);
    counter.calls = 0;
    run();
    return counter.calls;
  });
  return calls[1] - calls[0];
}

describe('the JavaScript side of a step', () => {
  test('calls at most 25 kernels for the forward of a block, and no more for its gradients', () => {
    const once = callsOfBlock(forward);
    expect(once).toBeGreaterThan(5);
    expect(once).toBeLessThanOrEqual(25);
    expect(callsOfBlock(nextToken)).toBe(once);
    expect(callsOfBlock(train) - once).toBeLessThanOrEqual(25);
  });

  // The reference's kernels are JavaScript and make views themselves, which are not counted.
  test.each([
    ['forward', forward],
    ['train step', train],
    ['next token', nextToken],
    ['decoding step', decode],
  ])('a steady %s makes no typed array and no view', (_, step) => {
    const asleep = idleKernels(getKernels());
    const run = warm(step, 2, asleep.kernels);
    asleep.idle();
    expect(typedArraysOf(run)).toBe(0);
  });

  test('typed arrays, views and copies are counted', () => {
    const kept = new Float32Array(4);
    expect(typedArraysOf(() => [new Int32Array(1), kept.subarray(1), kept.slice()])).toBe(3);
    expect(typedArraysOf(() => kept)).toBe(0);
  });
});
