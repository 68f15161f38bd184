/** Several samples in a row: each is computed as if it stood alone, forward and backward. */
import { describe, expect, test } from 'vitest';
import { evaluate, Lcg64, type ModelConfigOptions, MoETransformer, Tensor, Trainer } from '../../src';
import { getKernels } from '../../src/backend';
import { createReferenceKernels } from '../../src/backend/reference';
import type { Batch } from '../../src/training/trainer';
import { expectClose, expectRelative, sameBits } from '../helpers/close';
import { EVERYTHING, SMALL, SOME_DENSE, smallModel } from '../helpers/smallModel';

/** Samples of these lengths with random ids; the first target of each doesn't count. */
function samplesOf(lengths: readonly number[], seed = 1): { ids: number[]; targets: number[] }[] {
  const rng = new Lcg64(seed);
  return lengths.map((length) => {
    const tokens = Array.from({ length: length + 1 }, () => rng.nextInt(SMALL.vocabSize));
    return { ids: tokens.slice(0, -1), targets: [-100, ...tokens.slice(2)] };
  });
}

/** The samples of each row side by side, with padding behind them. */
function packed(rows: ReturnType<typeof samplesOf>[], seqLen: number): Batch {
  const size = rows.length * seqLen;
  const ids = new Int32Array(size);
  const targets = new Int32Array(size).fill(-100);
  const positions = new Int32Array(size).fill(-1);
  rows.forEach((samples, row) => {
    let at = row * seqLen;
    for (const sample of samples) {
      ids.set(sample.ids, at);
      targets.set(sample.targets, at);
      sample.ids.forEach((_, i) => {
        positions[at++] = i;
      });
    }
  });
  return { ids, targets, positions, batch: rows.length, seqLen };
}

const tensors = ({ ids, targets, positions, batch, seqLen }: Batch) => {
  const int32 = (data: Int32Array) => new Tensor(data, [batch, seqLen], 'int32');
  return { ids: int32(ids), targets: int32(targets), options: positions && { positions: int32(positions) } };
};

function gradientsOf(model: MoETransformer, batches: Batch[], weights: number[], config: object = {}) {
  const sums = model.store.parameters.map(({ shape }) => new Float64Array(shape.reduce((a, b) => a * b, 1)));
  let loss = 0;
  batches.forEach((batch, i) => {
    const { ids, targets, options } = tensors(batch);
    const result = new Trainer(model, { auxLossAlpha: 0, ...config }).lossAndGradients(ids, targets, options);
    loss += weights[i] * result.loss;
    model.store.parameters.forEach(({ grad }, p) => {
      grad!.forEach((value, j) => {
        sums[p][j] += weights[i] * value;
      });
    });
  });
  return { loss, sums };
}

const MODELS: Record<string, Partial<ModelConfigOptions>> = {
  plain: {},
  'all that is off by default': EVERYTHING,
  'a dense layer': SOME_DENSE,
};
/** Lengths of the samples of three rows: repeated ones, one token, a full row. */
const ROWS = [[5, 5, 3], [12], [1, 2, 8]];

describe.each(Object.entries(MODELS))('packed samples, %s', (_, extra) => {
  const rows = ROWS.map((lengths, i) => samplesOf(lengths, i + 1));
  const alone = rows.flat().filter(({ ids }) => ids.length > 1);
  const counted = alone.reduce((sum, { ids }) => sum + ids.length - 1, 0);

  test('losses and gradients in float64 are those of the samples one by one', () => {
    const kernels = createReferenceKernels({ floatType: 'float64' });
    const model = MoETransformer.create({ ...SMALL, ...extra }, { seed: 2, kernels });
    const all = gradientsOf(model, [packed(rows, 13)], [1]);
    const singly = gradientsOf(
      model,
      alone.map((sample) => packed([[sample]], sample.ids.length)),
      alone.map(({ ids }) => (ids.length - 1) / counted),
    );
    expectClose('loss', all.loss, singly.loss, 1e-13);
    model.store.parameters.forEach(({ name }, p) => {
      expectRelative(name, all.sums[p], singly.sums[p], 1e-11);
    });
  });

  test.each([
    ['whole', {}],
    ['in two parts', { gradAccumulationSteps: 2 }],
    ['with gradient checkpointing', { gradientCheckpointing: true }],
  ])('%s: the same with the kernels of this process', (_, config) => {
    const model = smallModel(extra, 2);
    const all = gradientsOf(model, [packed(rows, 13)], [1], config);
    const singly = gradientsOf(
      model,
      alone.map((sample) => packed([[sample]], sample.ids.length)),
      alone.map(({ ids }) => (ids.length - 1) / counted),
    );
    expectClose('loss', all.loss, singly.loss, 1e-5);
    model.store.parameters.forEach(({ name }, p) => {
      expectRelative(name, all.sums[p], singly.sums[p], 1e-4);
    });
  });

  test('samples of one length behind each other are a batch of rows, to the bit, router losses included', () => {
    const samples = samplesOf([6, 6, 6, 6]);
    const trainers = [samples.map((sample) => [sample]), [samples]].map((rows, i) => {
      const batch = packed(rows, i === 0 ? 6 : 24);
      const { ids, targets, options } = tensors(i === 0 ? { ...batch, positions: undefined } : batch);
      const trainer = new Trainer(smallModel(extra), { auxLossAlpha: 0.3, zLossCoef: 0.2, warmupSteps: 0 });
      const steps = [0, 1].map(() => trainer.trainStep(ids, targets, options));
      return { trainer, steps };
    });
    const [plain, one] = trainers;
    expect(one.steps).toEqual(plain.steps);
    expect(sameBits(one.trainer.model.store.shards[0], plain.trainer.model.store.shards[0])).toBe(true);
  });

  test('padding changes nothing: neither losses of the routers nor loads, tokens and gradients', () => {
    const results = [13, 20, 31].map((seqLen) => {
      const trainer = new Trainer(smallModel(extra), { auxLossAlpha: 0.3, zLossCoef: 0.2 });
      const { ids, targets, options } = tensors(packed(rows, seqLen));
      return {
        ...trainer.lossAndGradients(ids, targets, options),
        gradients: trainer.model.store.gradShards,
      };
    });
    expect(results[0].tokens).toBe(ROWS.flat().reduce((a, b) => a + b));
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  test('evaluate counts the same', () => {
    const model = smallModel(extra);
    const singly = alone.map((sample) => packed([[sample]], sample.ids.length));
    const plain = singly.map(({ positions, ...batch }) => batch);
    const all = evaluate(model, [packed(rows, 13)]);
    expect(all.countedTokens).toBe(counted);
    expectClose('loss', all.loss, evaluate(model, plain).loss, 1e-6);
  });
});

test('another shape in between leaves no trace', () => {
  const trainer = new Trainer(smallModel());
  const batch = tensors(packed([samplesOf([4, 7])], 12));
  const other = tensors(packed([samplesOf([9, 9, 9], 5)], 27));
  const plain = tensors({ ...packed([samplesOf([11])], 11), positions: undefined });
  const loss = ({ ids, targets, options }: typeof batch) => trainer.lossAndGradients(ids, targets, options);
  const before = loss(batch);
  loss(other);
  loss(plain);
  expect(loss(batch)).toEqual(before);
});

test('the first step takes the memory of full rows, and no later one takes more', () => {
  const trainer = new Trainer(smallModel());
  const sizes = [[4], [17, 9], [3], [30]].map((lengths) => {
    const { ids, targets, options } = tensors(packed([samplesOf(lengths)], 30));
    trainer.lossAndGradients(ids, targets, options);
    return trainer.model.workspace.floats.length;
  });
  expect(new Set(sizes).size).toBe(1);
});

test('trainer.run takes packed batches', async () => {
  const batch = packed([samplesOf([4, 7]), samplesOf([3])], 12);
  const trainer = new Trainer(smallModel(), { warmupSteps: 0 });
  const { ids, targets, options } = tensors(batch);
  const expected = new Trainer(smallModel(), { warmupSteps: 0 }).trainStep(ids, targets, options);
  for await (const step of trainer.run({ data: [batch] })) expect(step).toEqual(expected);
  expect(trainer.step).toBe(1);
  expect(getKernels()).toBe(trainer.model.kernels);
});

describe('wrong positions are refused', () => {
  const good = packed([samplesOf([4, 3])], 9);
  const withPositions = (...positions: number[]) => ({ ...good, positions: Int32Array.from(positions) });

  test.each([
    ['a gap', withPositions(0, 1, 3, 4, 0, 1, 2, -1, -1), /positions: row 0 must count from 0/],
    ['no beginning', withPositions(1, 2, 3, 4, 0, 1, 2, -1, -1), /got 1 after its beginning/],
    ['padding first', withPositions(-1, 0, 1, 2, 0, 1, 2, -1, -1), /got -1 after its beginning/],
    ['a sample behind padding', withPositions(0, 1, 2, 3, 0, 1, 2, -1, 0), /got 0 after -1/],
    [
      'a target of padding',
      withPositions(0, 1, 2, 3, 0, 1, -1, -1, -1),
      /the target of padding at position 6/,
    ],
    ['too few', withPositions(0, 1), /positions must hold batch \* seqLen = 9 tokens, got 2/],
    [
      'a row beyond the context',
      packed([samplesOf([4, 3])], 33),
      /a row of 33 tokens exceeds maxSeqLen \(32\)/,
    ],
  ])('%s', (_, batch, message) => {
    expect(() => evaluate(smallModel(), [batch])).toThrow(message);
  });

  test('positions of another shape', () => {
    const { ids, targets } = tensors(good);
    const positions = Tensor.fromIds([[0, 1]]);
    expect(() => new Trainer(smallModel()).trainStep(ids, targets, { positions })).toThrow(
      /positions must have the shape of ids \[1,9\], got \[1,2\]/,
    );
  });
});
