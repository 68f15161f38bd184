/** The fixtures of the float64 oracle on ranks that are threads, within the bounds of one process. */
import { describe, expect, it } from 'vitest';
import type { LossResult, StepResult } from '../../../src';
import { expectClose, expectRelative } from '../../helpers/close';
import { fixtureDirs, loadFixture } from '../../helpers/fixture';
import {
  expectLossAfter,
  expectLossAndGradients,
  expectStep,
  expectWeights,
  trainConfigOf,
} from '../../helpers/fixtureChecks';
import { onRanks } from './ranks';

type Named = [name: string, data: Float32Array][];
interface Trained {
  result: LossResult;
  gradients: Named;
  steps: { result: StepResult; weights: Named }[];
  after: LossResult;
}

describe.each(fixtureDirs().map((dir) => [dir.split('/').pop()!, dir]))(
  'float64 oracle, case %s',
  (_, dir) => {
    /** The fixture's batch, `copies` times. */
    async function train(ranks: number, copies: number, options: object = {}, groupSize?: number) {
      const fixture = await loadFixture(dir);
      const rowsOf = (name: string) => {
        const { shape, data } = fixture.tensors.get(name)!;
        const rows = Array.from({ length: shape[0] }, (_, b) =>
          Array.from({ length: shape[1] }, (_, s) => data[b * shape[1] + s]),
        );
        return Array.from({ length: copies }, () => rows).flat();
      };
      const batch = { ids: rowsOf('input_ids'), targets: rowsOf('targets') };
      const config = { ...trainConfigOf(fixture), ...options };
      const scenario = { dir, ...batch, train: config, groupSize, steps: copies === ranks ? 5 : 0 };
      return { fixture, trained: await onRanks<Trained>(ranks, { scenario: 'oracle', options: scenario }) };
    }

    // The balance loss is that of a micro-batch, so each rank has to have the fixture's batch for the fixture's sum.
    it.each([2, 4])('gradients and five steps agree where each of %i ranks has the batch', async (ranks) => {
      const { fixture, trained } = await train(ranks, ranks);
      for (const { result, gradients, steps, after } of trained) {
        expectLossAndGradients(fixture, result, gradients);
        for (const step of steps) expectStep(fixture, step.result);
        expectWeights(fixture, 'step1', steps[0].weights);
        expectWeights(fixture, 'step5', steps[4].weights);
        expectLossAfter(fixture, after);
      }
      expect(trained[0].steps).toHaveLength(fixture.train.steps.length);
    });

    it.each([
      [2, 2],
      [4, 2],
    ])(
      'gradients and five steps agree on %i ranks whose experts are divided over %i',
      async (ranks, groupSize) => {
        const { fixture, trained } = await train(ranks, ranks, {}, groupSize);
        const ofAll = (of: (each: Trained) => Named) => new Map(trained.flatMap(of));
        for (const { result, steps, after } of trained) {
          expectLossAndGradients(
            fixture,
            result,
            ofAll(({ gradients }) => gradients),
          );
          for (const step of steps) expectStep(fixture, step.result);
          expectLossAfter(fixture, after);
        }
        for (const step of [0, 4]) {
          expectWeights(
            fixture,
            `step${step + 1}`,
            ofAll(({ steps }) => steps[step].weights),
          );
        }
      },
    );

    it('cross-entropy agrees where the batch is cut over 2 ranks, and its gradients are those of the whole', async () => {
      const noBalance = { auxLossAlpha: 0 };
      const { fixture, trained } = await train(2, 1, noBalance);
      const [{ gradients: whole }] = (await train(1, 1, noBalance)).trained;
      const [want] = Array.from(fixture.tensors.get('loss.cross_entropy')!.data);
      for (const { result, gradients } of trained) {
        expectClose('crossEntropy', result.crossEntropy, want, 2e-6);
        for (const [i, [name, gradient]] of gradients.entries()) {
          // With one expert a token the router learns from the balance loss alone: what is left is rounding.
          const isNoise = fixture.config.num_experts_per_tok === 1 && name.endsWith('gate.weight');
          if (!isNoise) expectRelative(name, gradient, whole[i][1], 5e-5);
        }
      }
    });
  },
);
