import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { MoETransformer, Tensor, Trainer } from '../../src';
import { expectRelative } from '../helpers/close';
import { type Fixture, fixtureDirs, loadFixture } from '../helpers/fixture';
import {
  expectLossAfter,
  expectLossAndGradients,
  expectStep,
  expectWeights,
  trainConfigOf,
} from '../helpers/fixtureChecks';

// The table "Tolerances for float32" of test/fixtures/README.md.
const LOGITS = 1e-5;

for (const dir of fixtureDirs()) {
  const name = dir.split('/').pop();
  describe(`float64 oracle, case ${name}`, () => {
    let fixture: Fixture;
    let model: MoETransformer;
    let ids: Tensor;
    let targets: Tensor;

    beforeAll(async () => {
      fixture = await loadFixture(dir);
      model = await MoETransformer.load(dir);
      ids = int32(fixture, 'input_ids');
      targets = int32(fixture, 'targets');
    });

    const want = (key: string) => fixture.tensors.get(key)!.data;

    test('logits, hidden states and routing agree', () => {
      const trace = model.trace(ids);
      expectRelative('embedding', trace.embedding.data as Float32Array, want('hidden.embed'), LOGITS);
      expectRelative('norm', trace.norm.data as Float32Array, want('hidden.norm'), LOGITS);
      expectRelative('logits', trace.logits.data, want('logits'), LOGITS);
      expect(trace.logits.shape).toEqual(fixture.tensors.get('logits')!.shape);
      trace.hidden.forEach((hidden, i) => {
        expectRelative(`hidden.${i}`, hidden.data as Float32Array, want(`hidden.${i}`), LOGITS);
      });
      trace.routing.forEach((each, i) => {
        const routing = each!;
        const floats = { logits: routing.logits, probs: routing.probs, topk_weights: routing.weights };
        for (const [key, tensor] of Object.entries(floats)) {
          expectRelative(
            `router.${i}.${key}`,
            tensor.data as Float32Array,
            want(`router.${i}.${key}`),
            LOGITS,
          );
        }
        expect(Array.from(routing.indices.data as Int32Array)).toEqual(
          Array.from(want(`router.${i}.topk_indices`)),
        );
      });
    });

    test('a forward that keeps nothing gives the same logits as one that does', () => {
      const kept = model.forward(ids, { training: true });
      expect(model.forward(ids).data).toEqual(kept.data);
    });

    test('a frozen model gives the same logits', () => {
      model.freeze({ pack: true });
      expectRelative('logits', model.forward(ids).data, want('logits'), LOGITS);
      model.unfreeze();
    });

    test('cross-entropy, auxiliary loss and every parameter gradient agree', () => {
      const trainer = new Trainer(model, trainConfigOf(fixture));
      const result = trainer.lossAndGradients(ids, targets);
      const gradients = [...model.namedParameters()].map(([key, { grad }]): [string, Float32Array] => [
        key,
        grad!,
      ]);
      expectLossAndGradients(fixture, result, gradients);
    });

    test('five training steps follow the oracle: learning rate, losses, gradient norm, weights', async () => {
      const fresh = await MoETransformer.load(dir);
      const trainer = new Trainer(fresh, trainConfigOf(fixture));
      for (const { step } of fixture.train.steps) {
        const result = trainer.trainStep(ids, targets);
        expect(result.step).toBe(step);
        expectStep(fixture, result);
        const weights = [...fresh.namedParameters()].map(([key, { data }]): [string, Float32Array] => [
          key,
          data,
        ]);
        if (step === 1 || step === 5) expectWeights(fixture, `step${step}`, weights);
      }
      expectLossAfter(fixture, trainer.lossAndGradients(ids, targets));
    });

    if (!existsSync(join(dir, 'greedy.json'))) return;

    test('greedy decoding gives the same tokens and logits', () => {
      const { prompt, tokens, best_logit } = fixture.greedy!;
      const total = prompt.length + tokens.length;
      expect(model.generateGreedy(prompt, total)).toEqual([...prompt, ...tokens]);
      const best = tokens.map((token, i) => model.nextTokenLogits([...prompt, ...tokens.slice(0, i)])[token]);
      expectRelative('best_logit', best, best_logit, LOGITS);
    });
  });
}

function int32(fixture: Fixture, name: string): Tensor {
  const { shape, data } = fixture.tensors.get(name)!;
  return new Tensor(Int32Array.from(data), shape, 'int32');
}
