/** Forward with loss, backward, update: the hand-overs of a train step, and gradients announced as they become final. */
import { describe, expect, test } from 'vitest';
import { MoETransformer, type ParameterStore, Tensor, Trainer } from '../../src';
import { getKernels } from '../../src/backend';
import type { WeightRange } from '../../src/memory/parameters';
import type { LossTerms } from '../../src/model/loss';
import { sameBits } from '../helpers/close';
import { EVERYTHING, SMALL, SOME_DENSE, smallModel } from '../helpers/smallModel';

const IDS = [
  [1, 2, 3, 4, 5, 6],
  [7, 8, 9, 1, 2, 3],
  [4, 4, 4, 0, 19, 2],
];
const ids = Tensor.fromIds(IDS);
const targets = Tensor.fromIds(IDS.map((row) => [...row.slice(1), 0]));

/** A model in buffers of at most `maxShardElements`. */
function shardedModel(maxShardElements: number): MoETransformer {
  const Model = MoETransformer as unknown as new (...args: unknown[]) => MoETransformer;
  const model = new Model(smallModel(EVERYTHING).config, getKernels(), { maxShardElements });
  model.store.initialise(3);
  return model;
}

const MODELS: Record<string, () => MoETransformer> = {
  plain: () => smallModel(),
  'tied embeddings, and all that is off by default': () => smallModel(EVERYTHING),
  'five layers': () => smallModel({ nLayers: 5 }),
  'a dense layer': () => smallModel(SOME_DENSE),
  'several buffers': () => shardedModel(4096),
};

const read = ({ gradShards }: ParameterStore, { shard, offset, size }: WeightRange) =>
  gradShards[shard].slice(offset, offset + size);

/** Ranges and their contents when they were announced. */
function announced(trainer: Trainer): { range: WeightRange; values: Float32Array }[] {
  const found: { range: WeightRange; values: Float32Array }[] = [];
  const onGradients = (range: WeightRange) =>
    found.push({ range: { ...range }, values: read(trainer.model.store, range) });
  trainer.lossAndGradients(ids, targets, { onGradients });
  return found;
}

/** For each element of each buffer, in how many ranges it lies. */
function coverage({ shards }: ParameterStore, ranges: readonly WeightRange[]): Uint8Array[] {
  const times = shards.map(({ length }) => new Uint8Array(length));
  for (const { shard, offset, size } of ranges) {
    for (let i = offset; i < offset + size; i++) times[shard][i]++;
  }
  return times;
}

describe.each(Object.entries(MODELS))('gradients announced: %s', (_, make) => {
  test.each([
    ['one part', {}],
    ['gradient checkpointing', { gradientCheckpointing: true }],
    ['three parts', { gradAccumulationSteps: 3 }],
  ])('%s: each weight once, and final to the bit', (_, options) => {
    const trainer = new Trainer(make(), options);
    const { store } = trainer.model;
    // The pass runs twice: the second one finds gradients already there.
    for (let round = 0; round < 2; round++) {
      const found = announced(trainer);
      for (const times of coverage(
        store,
        found.map(({ range }) => range),
      )) {
        expect(new Set(times)).toEqual(new Set([1]));
      }
      for (const { range, values } of found) {
        expect(sameBits(values, read(store, range)), JSON.stringify(range)).toBe(true);
      }
    }
  });

  test('the losses and gradients are those without a listener', () => {
    const [heard, silent] = [new Trainer(make()), new Trainer(make())];
    const result = heard.lossAndGradients(ids, targets, { onGradients: () => {} });
    expect(result).toEqual(silent.lossAndGradients(ids, targets));
    heard.model.store.gradShards.forEach((shard, i) => {
      expect(sameBits(shard, silent.model.store.gradShards[i])).toBe(true);
    });
  });
});

test('lm_head and norm are announced first, then the blocks from the last, the embedding at the end', () => {
  const model = smallModel({ nLayers: 3 });
  const names = announced(new Trainer(model)).map(({ range: { offset, size } }) => {
    const inside = [...model.namedParameters()].filter(([, parameter]) => {
      const at = parameter.grad!.byteOffset - model.store.gradShards[0].byteOffset;
      return at >= 4 * offset && at < 4 * (offset + size);
    });
    return [...new Set(inside.map(([name]) => /layers\.\d+|embed_tokens|norm|lm_head/.exec(name)![0]))];
  });
  expect(names).toEqual([['norm', 'lm_head'], ['layers.2'], ['layers.1'], ['layers.0'], ['embed_tokens']]);
});

test('only the last part of an accumulated batch announces', () => {
  const trainer = new Trainer(smallModel(), { gradAccumulationSteps: 3 });
  expect(announced(trainer)).toHaveLength(SMALL.nLayers + 2);
});

test('an error of a listener ends the step and does not change the next one', () => {
  const [failed, untouched] = [new Trainer(smallModel()), new Trainer(smallModel())];
  const onGradients = () => {
    throw new Error('link down');
  };
  expect(() => failed.lossAndGradients(ids, targets, { onGradients })).toThrow('link down');
  expect(failed.trainStep(ids, targets)).toEqual(untouched.trainStep(ids, targets));
  expect(sameBits(failed.model.store.shards[0], untouched.model.store.shards[0])).toBe(true);
});

describe('ModelLoss', () => {
  const part = { ids: IDS[0], targets: IDS[1], from: 0, batch: 1, seq: 6 };
  const terms: LossTerms = { auxLossAlpha: 0, zLossCoef: 0, weight: 1, ignoreIndex: -100, gradScale: 1 };

  test('parts add up in the sums', () => {
    const { loss } = smallModel();
    const [one, two] = [loss.noSums(), loss.noSums()];
    loss.forward(part, { ...terms, auxLossAlpha: 0.1, zLossCoef: 0.2 }, 'loss', one);
    for (let i = 0; i < 2; i++) {
      loss.forward(part, { ...terms, auxLossAlpha: 0.1, zLossCoef: 0.2 }, 'loss', two);
    }
    expect(one.auxLoss).toBeGreaterThan(0);
    expect(one.zLoss).toBeGreaterThan(0);
    expect(two.crossEntropy).toBe(2 * one.crossEntropy);
    expect(two.load).toEqual(one.load.map((layer) => layer.map((count) => 2 * count)));
    expect(one.load.flat().reduce((sum, n) => sum + n)).toBe(SMALL.nLayers * part.seq * SMALL.topKExperts);
  });

  test.each([
    ['before any forward', () => {}],
    ['after an evaluation', ({ loss }: MoETransformer) => loss.forward(part, terms, 'loss', loss.noSums())],
    [
      'after a forward of logits that came in between',
      (model: MoETransformer) => {
        model.loss.forward(part, terms, 'train', model.loss.noSums());
        model.forward(Tensor.fromIds([IDS[0]]), { training: true });
      },
    ],
    [
      'a second time',
      (model: MoETransformer) => {
        model.loss.forward(part, terms, 'train', model.loss.noSums());
        model.loss.backward(true);
      },
    ],
  ])('backward %s is refused', (_, before) => {
    const model = smallModel();
    before(model);
    expect(() => model.loss.backward(true)).toThrow(expect.objectContaining({ code: 'SGEMOE_NO_FORWARD' }));
  });
});
