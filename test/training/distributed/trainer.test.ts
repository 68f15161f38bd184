/** Ranks that are threads share the steps of a trainer: the same bits as one process with the same micro-batches. */
import { describe, expect, it } from 'vitest';
import { type LossResult, type StepResult, soloCollectives, Tensor, Trainer } from '../../../src';
import { expectClose, expectRelative } from '../../helpers/close';
import { smallModel } from '../../helpers/smallModel';
import { onRanks } from './ranks';

interface Trained {
  steps: StepResult[];
  weights: string;
  elements: number[];
}
const STEPS = 2;
const train = (ranks: number, options: Record<string, unknown>) =>
  onRanks<Trained>(ranks, { scenario: 'train', options: { steps: STEPS, ...options } });

describe('a step of several ranks', () => {
  it.each([
    ['clipping, balance and z-loss', {}, { zLossCoef: 0.1, gradClip: 0.1, auxLossAlpha: 0.05 }],
    ['selection biases', {}, { routerBiasUpdateRate: 0.01 }],
    ['parts of a micro-batch, recomputed', {}, { gradAccumulationSteps: 2, gradientCheckpointing: true }],
    [
      'a tied embedding and decay exclusions',
      { tieEmbeddings: true },
      { weightDecayExclude: ['embeddings'] },
    ],
    ['chosen parameters', {}, { train: ['experts.*.w2', 'lm_head', 'norms'] }],
  ])('is that of one process with the same micro-batches: %s', async (_, model, options) => {
    const config = { model, train: { microBatches: 4, ...options } };
    const [one] = await train(1, config);
    // Every rank of four gets a part.
    if (!('train' in options)) expect(one.elements[0]).toBeGreaterThan(3 * 65_536);
    const [two, four] = [await train(2, config), await train(4, config)];
    for (const each of [...two, ...four]) expect(each).toEqual(one);
  });

  it('is that of one process, with adapters', async () => {
    const lora = { rank: 4, targets: ['q_proj', 'lm_head'], dropout: 0.1 };
    const config = { lora, train: { microBatches: 2 } };
    const [one] = await train(1, config);
    for (const each of await train(2, config)) expect(each).toEqual(one);
  });

  it('is that of one process, on pairs of answers, whose metrics are those of all', async () => {
    interface Pairs {
      results: StepResult[];
      weights: string;
    }
    const pairs = (ranks: number, options: Record<string, unknown>) =>
      onRanks<Pairs>(ranks, { scenario: 'pairs', options });
    const options = { train: { microBatches: 4, auxLossAlpha: 0.05 } };
    const [one] = await pairs(1, options);
    expect(one.results[1].preferences!.loss).not.toBe(one.results[0].preferences!.loss);
    for (const each of [...(await pairs(2, options)), ...(await pairs(4, options))])
      expect(each).toEqual(one);

    const [whole] = await pairs(1, { train: { microBatches: 1, auxLossAlpha: 0 } });
    const [parts] = await pairs(2, { train: { auxLossAlpha: 0 } });
    for (const name of ['loss', 'margin', 'chosenReward', 'rejectedReward'] as const) {
      const [a, b] = [parts, whole].map(({ results }) => results[0].preferences![name]);
      expectClose(name, a, b, 1e-5);
    }
    for (const each of await pairs(2, { ...options, differs: true })) {
      expect(each).toMatchObject({ message: 'Rank 1 has another batch than rank 0.' });
    }
  });

  it('has as many micro-batches as ranks unless told otherwise', async () => {
    const [alone] = await train(1, {});
    const [four] = await train(1, { train: { microBatches: 4 } });
    for (const each of await train(4, {})) expect(each).toEqual(four);
    // The tree over micro-batches rounds otherwise than one batch.
    expect(four.weights).not.toBe(alone.weights);
  });

  it('skips together where the loss is not finite', async () => {
    const steps = { train: { lr: 1e30, gradClip: Number.POSITIVE_INFINITY } };
    const results = await train(2, steps);
    expect(results[0].steps.map(({ skipped }) => skipped)).toEqual([false, true]);
    expect(results[1]).toEqual(results[0]);
  });

  it('leaves the sums of all ranks in the gradients of lossAndGradients', async () => {
    interface Gradients {
      result: LossResult;
      ranges: unknown[];
      gradients: Float32Array[];
    }
    const options = { train: { auxLossAlpha: 0 } };
    const gradients = (ranks: number) => onRanks<Gradients>(ranks, { scenario: 'gradients', options });
    const [[one], four] = [await gradients(1), await gradients(4)];
    for (const each of four) {
      expect(each.ranges).toEqual([{ shard: 0, offset: 0, size: one.gradients[0].length }]);
      expect(each.result.crossEntropy).toBeCloseTo(one.result.crossEntropy, 5);
      expectRelative('gradients', each.gradients[0], one.gradients[0], 1e-4);
      expect(each.gradients).toEqual(four[0].gradients);
    }
  });

  it.each([
    ['batch', 'Rank 1 has another batch than rank 0.'],
    ['weights', 'Rank 1 has other weights, options or counters than rank 0.'],
    ['counters', 'Rank 1 has other weights, options or counters than rank 0.'],
  ])('refuses ranks that differ in their %s', async (what, message) => {
    const results = await onRanks<Record<string, string>>(2, { scenario: 'differ', options: { what } });
    for (const each of results) expect(each).toMatchObject({ code: 'SGEMOE_RANKS_MISMATCH', message });
  });

  it('ends on all ranks when one is told to stop', async () => {
    const told = await onRanks(2, { scenario: 'stop', options: {} });
    expect(told).toEqual([
      { made: 2, name: 'AbortError', message: 'another rank was told to stop' },
      { made: 2, name: 'Error', message: 'told to stop' },
    ]);
    expect(await onRanks(2, { scenario: 'stop', options: { onAbort: 'return' } })).toEqual([
      { made: 2 },
      { made: 2 },
    ]);
  });
});

describe('micro-batches of one process', () => {
  it('must be at least 1, a multiple of the ranks, and at most as many as rows', () => {
    expect(() => new Trainer(smallModel(), { microBatches: 0 })).toThrow(
      /microBatches must be an integer >= 1/,
    );
    const collectives = { ...soloCollectives(), rank: 1, size: 4 };
    expect(() => new Trainer(smallModel(), { microBatches: 6 }, { collectives })).toThrow(
      'microBatches must be a multiple of the number of ranks (4), got 6',
    );
    const trainer = new Trainer(smallModel(), { microBatches: 3, gradAccumulationSteps: 2 });
    const ids = Tensor.fromIds([[1], [2], [3], [4], [5]]);
    expect(() => trainer.trainStep(ids, ids)).toThrow(
      "microBatches * gradAccumulationSteps (6) must not exceed the batch's sequences (5)",
    );
  });
});
