import { describe, expect, test } from 'vitest';
import { type MoETransformer, Tensor, Trainer } from '../../src';
import { expectRelative, sameBits } from '../helpers/close';
import { EVERYTHING, SOME_DENSE, smallModel } from '../helpers/smallModel';

const ids = Tensor.fromIds([[3, 1, 4, 1, 5, 9, 2, 6]]);
const targets = Tensor.fromIds([[1, 4, 1, 5, 9, 2, 6, 5]]);
const OPTIONS = { lr: 0.01, warmupSteps: 0, gradClip: Number.POSITIVE_INFINITY };

/** A bias's gradient is a product whose sums depend on its width in the last bit; all others are the same product. */
function expectSame(name: string, got: Float32Array, want: Float32Array): void {
  if (name.endsWith('bias')) expectRelative(name, got, want, 1e-5);
  else expect(sameBits(got, want), name).toBe(true);
}

const copies = (model: MoETransformer) =>
  new Map([...model.namedParameters()].map(([name, { data }]) => [name, data.slice()]));

describe.each([
  ['the router', {}, ['router'], /block_sparse_moe\.gate\./],
  ['down of every expert', {}, ['experts.*.w2'], /experts\.\d\.w2/],
  ['gate of every expert, a part of a stacked matrix', {}, ['experts.*.w1'], /experts\.\d\.w1/],
  ['one expert', {}, ['layers.1.*.experts.2'], /layers\.1\..*experts\.2/],
  ['gate of one expert, up of another', {}, ['experts.0.w1', 'experts.2.w3'], /experts\.(0\.w1|2\.w3)/],
  ['queries and values with their biases', EVERYTHING, ['q_proj', 'v_proj'], /[qv]_proj/],
  ['norms', EVERYTHING, ['norms'], /norm/],
  ['a tied embedding', EVERYTHING, ['embedding'], /embed_tokens/],
  ['the upper layer and lm_head', {}, ['layers.1', 'lm_head'], /layers\.1|lm_head/],
  ['the dense layer', SOME_DENSE, ['mlp'], /mlp/],
])('train %s', (_, extra, train, chosen) => {
  test.each([false, true])(
    'gradients, steps and moments are those of a full training; recompute: %s',
    (recompute) => {
      const options = { ...OPTIONS, gradientCheckpointing: recompute };
      const [whole, part] = [smallModel(extra), smallModel(extra)];
      const before = copies(part);
      const full = new Trainer(whole, options);
      const some = new Trainer(part, { ...options, train });
      const fullLoss = full.lossAndGradients(ids, targets).loss;
      expect(some.lossAndGradients(ids, targets).loss).toBe(fullLoss);
      let elements = 0;
      for (const [name, { grad, size }] of part.namedParameters()) {
        if (!chosen.test(name)) expect(grad, name).toBeNull();
        else expectSame(name, grad!, whole.parameter(name).grad!);
        if (chosen.test(name)) elements += size;
      }
      full.trainStep(ids, targets);
      some.trainStep(ids, targets);
      for (const [name, { data }] of part.namedParameters()) {
        const want = chosen.test(name) ? whole.parameter(name).data : before.get(name)!;
        expectSame(name, data, want);
      }
      // Padding is at most 15 elements for each part.
      const held = part.store.gradShards.reduce((sum, { length }) => sum + length, 0);
      expect(held).toBeGreaterThanOrEqual(elements);
      expect(held).toBeLessThanOrEqual(elements + 15 * part.store.parameters.length);
      const moments = new Map(full.moments().map(({ name, data }) => [name, data]));
      const own = some.moments();
      for (const { name, data } of own) expectSame(name, data, moments.get(name)!);
      expect(own.map(({ name }) => name).filter((name) => chosen.test(name))).toHaveLength(own.length);
    },
  );
});

test('a later trainer chooses anew, and the earlier one refuses to go on', () => {
  const model = smallModel();
  const first = new Trainer(model, { ...OPTIONS, train: ['router'] });
  first.trainStep(ids, targets);
  const second = new Trainer(model, OPTIONS);
  expect(() => first.trainStep(ids, targets)).toThrow(/a later Trainer/);
  second.trainStep(ids, targets);
  expect(model.parameter('lm_head.weight').grad).not.toBeNull();
});

test('a pattern that means nothing is refused with examples of names', () => {
  const model = smallModel();
  expect(() => new Trainer(model, { train: ['experts.*.w4'] })).toThrow(
    /'experts\.\*\.w4' is part of no name here/,
  );
  expect(() => new Trainer(model, { train: [] })).toThrow(/train must be a list of texts, at least one/);
  expect(() => new Trainer(model, { train: ['gat'] })).toThrow(RangeError);
});
