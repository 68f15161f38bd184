/** Results of training beside a fixture's; bounds: the table "Tolerances for float32" of test/fixtures/README.md. */
import { expect } from 'vitest';
import type { LossResult, StepResult, TrainConfig } from '../../src';
import { expectClose, expectRelative } from './close';
import type { Fixture } from './fixture';

const LOSS = 2e-6;
const GRAD_NORM = 1e-5;
const GRADIENT = 5e-5;
const ROUTER_GRADIENT_TOP1 = 2e-4;
const STEP_LOSS = 5e-6;
const STEP_GRAD_NORM = 5e-5;
const LR = 1e-6;

type Named = Iterable<[name: string, data: ArrayLike<number>]>;

export function trainConfigOf(fixture: Fixture): TrainConfig {
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

/** The losses, the norm and every gradient of a batch. */
export function expectLossAndGradients(fixture: Fixture, result: LossResult, gradients: Named): void {
  const want = (key: string) => fixture.tensors.get(key)!.data;
  expectClose('crossEntropy', result.crossEntropy, want('loss.cross_entropy')[0], LOSS);
  expectClose('auxLoss', result.auxLoss, sum(want('loss.aux')), LOSS);
  expectClose('loss', result.loss, want('loss.total')[0], LOSS);
  expectClose('gradNorm', result.gradNorm, want('grad_norm')[0], GRAD_NORM);
  const router = fixture.config.num_experts_per_tok === 1 ? ROUTER_GRADIENT_TOP1 : GRADIENT;
  let n = 0;
  for (const [key, gradient] of gradients) {
    expectRelative(
      `grad.${key}`,
      gradient,
      want(`grad.${key}`),
      key.endsWith('gate.weight') ? router : GRADIENT,
    );
    n++;
  }
  expect(n).toBe([...fixture.tensors.keys()].filter((key) => key.startsWith('grad.')).length);
}

/** A train step; `result.step` counts from 1. */
export function expectStep(fixture: Fixture, result: StepResult): void {
  const step = fixture.train.steps[result.step - 1];
  expectClose('lr', result.lr, step.lr, LR);
  expectClose(`loss ${step.step}`, result.loss, step.loss, STEP_LOSS);
  expectClose(`crossEntropy ${step.step}`, result.crossEntropy, step.cross_entropy, STEP_LOSS);
  expectClose(`auxLoss ${step.step}`, result.auxLoss, sum(step.aux), STEP_LOSS);
  expectClose(`gradNorm ${step.step}`, result.gradNorm, step.grad_norm, STEP_GRAD_NORM);
}

/** The loss after the last step. */
export function expectLossAfter(fixture: Fixture, { loss }: LossResult): void {
  expectClose('loss after', loss, fixture.train.after.loss, STEP_LOSS);
}

/** AdamW divides by the gradient's own size, so a few entries may move by a visible part of lr: see the README. */
export function expectWeights(fixture: Fixture, prefix: string, weights: Named): void {
  let n = 0;
  let off = 0;
  let worst = 0;
  for (const [name, data] of weights) {
    const stored = fixture.tensors.get(`${prefix}.${name}`);
    if (!stored) continue;
    n += data.length;
    for (let i = 0; i < data.length; i++) {
      const difference = Math.abs(data[i] - stored.data[i]);
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
