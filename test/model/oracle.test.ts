import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { MoETransformer, Tensor, Trainer } from '../../src';
import type { TrainConfig } from '../../src/training/trainer';
import { expectClose, expectRelative } from '../helpers/close';
import { type Fixture, fixtureDirs, loadFixture } from '../helpers/fixture';

// Bounds: the table "Tolerances for float32" of test/fixtures/README.md.
const LOGITS = 1e-5;
const LOSS = 2e-6;
const GRAD_NORM = 1e-5;
const GRADIENT = 5e-5;
const ROUTER_GRADIENT_TOP1 = 2e-4;
const STEP_LOSS = 5e-6;
const STEP_GRAD_NORM = 5e-5;
const LR = 1e-6;

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
      const trainer = new Trainer(model, trainConfig(fixture));
      const result = trainer.lossAndGradients(ids, targets);
      expectClose('crossEntropy', result.crossEntropy, want('loss.cross_entropy')[0], LOSS);
      expectClose('auxLoss', result.auxLoss, sum(want('loss.aux')), LOSS);
      expectClose('loss', result.loss, want('loss.total')[0], LOSS);
      expectClose('gradNorm', result.gradNorm, want('grad_norm')[0], GRAD_NORM);
      const top1 = model.config.topKExperts === 1;
      for (const [key, parameter] of model.namedParameters()) {
        const bound = top1 && key.endsWith('gate.weight') ? ROUTER_GRADIENT_TOP1 : GRADIENT;
        expectRelative(`grad.${key}`, parameter.grad!, want(`grad.${key}`), bound);
      }
    });

    test('five training steps follow the oracle: learning rate, losses, gradient norm, weights', async () => {
      const fresh = await MoETransformer.load(dir);
      const trainer = new Trainer(fresh, trainConfig(fixture));
      for (const step of fixture.train.steps) {
        const result = trainer.trainStep(ids, targets);
        expect(result.step).toBe(step.step);
        expectClose('lr', result.lr, step.lr, LR);
        expectClose(`loss ${step.step}`, result.loss, step.loss, STEP_LOSS);
        expectClose(`crossEntropy ${step.step}`, result.crossEntropy, step.cross_entropy, STEP_LOSS);
        expectClose(`auxLoss ${step.step}`, result.auxLoss, sum(step.aux), STEP_LOSS);
        expectClose(`gradNorm ${step.step}`, result.gradNorm, step.grad_norm, STEP_GRAD_NORM);
        if (step.step === 1 || step.step === 5) expectWeights(fresh, fixture, `step${step.step}`);
      }
      const after = trainer.lossAndGradients(ids, targets);
      expectClose('loss after', after.loss, fixture.train.after.loss, STEP_LOSS);
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

function trainConfig(fixture: Fixture): TrainConfig {
  const c = fixture.train.train_config;
  return {
    lr: c.lr,
    beta1: c.beta1,
    beta2: c.beta2,
    eps: c.eps,
    weightDecay: c.weight_decay,
    gradClip: c.clip,
    warmupSteps: c.warmup_steps,
    totalSteps: c.total_steps,
  };
}

/** AdamW divides by the gradient's own size, so a few entries may move by a visible part of lr: see the README. */
function expectWeights(model: MoETransformer, fixture: Fixture, prefix: string): void {
  let n = 0;
  let off = 0;
  let worst = 0;
  for (const [name, parameter] of model.namedParameters()) {
    const stored = fixture.tensors.get(`${prefix}.${name}`);
    if (!stored) continue;
    n += parameter.size;
    for (let i = 0; i < parameter.size; i++) {
      const difference = Math.abs(parameter.data[i] - stored.data[i]);
      if (!(difference <= 1e-5)) off++;
      worst = Math.max(worst, difference);
    }
  }
  expect(off, `${prefix}: weights off by more than 1e-5`).toBeLessThanOrEqual(Math.max(2, n / 10_000));
  expect(worst, `${prefix}: worst weight`).toBeLessThanOrEqual(5e-4);
}

function sum(values: ArrayLike<number>): number {
  return Array.from(values).reduce((total, value) => total + value, 0);
}
