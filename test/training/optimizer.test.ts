import { describe, expect, test } from 'vitest';
import { type DecayExclusion, MoETransformer, Tensor, type TrainConfig, Trainer } from '../../src';
import { getKernels } from '../../src/backend';
import { EVERYTHING, SMALL, smallModel } from '../helpers/smallModel';

const ids = Tensor.fromIds([[1, 2, 3, 4, 5, 6]]);
const targets = Tensor.fromIds([[2, 3, 4, 5, 6, 7]]);
/** A rate and a decay so large that a step with decay clearly differs from one without: 0.05 of each weight. */
const LARGE = { lr: 0.1, weightDecay: 0.5, warmupSteps: 0, beta1: 0.8, beta2: 0.9, eps: 1e-3 };

/** Decides by the public name, as a reader of the checkpoint would. */
function exclusionOf(name: string): DecayExclusion | null {
  if (name.endsWith('.bias')) return 'biases';
  if (name.includes('embed_tokens')) return 'embeddings';
  return /norm\.weight$/.test(name) ? 'norms' : null;
}

/** Makes the first step of a trainer and compares every parameter with AdamW's formula in float64. */
function expectFirstStep(model: MoETransformer, options: TrainConfig): void {
  const trainer = new Trainer(model, { ...LARGE, ...options });
  const before = new Map([...model.namedParameters()].map(([name, { data }]) => [name, Array.from(data)]));
  const { gradNorm } = trainer.trainStep(ids, targets);
  const { eps, gradClip, weightDecayExclude } = trainer.config;
  const lr = trainer.getLr(1);
  const gradScale = Math.min(1, gradClip / gradNorm);
  for (const [name, { data, grad }] of model.namedParameters()) {
    const exclusion = exclusionOf(name);
    const decay = exclusion !== null && weightDecayExclude.includes(exclusion) ? 0 : LARGE.weightDecay;
    before.get(name)!.forEach((old, i) => {
      const g = grad![i] * gradScale;
      // The bias corrections of step 1 cancel the factors of both moments.
      const want = old - lr * (decay * old + g / (Math.abs(g) + eps));
      // The result is rounded once, and about ten intermediate values no larger than |old| + lr: 2^-24 each.
      const tolerance = 12 * 2 ** -24 * (Math.abs(old) + lr);
      expect(Math.abs(data[i] - want), `${name}[${i}]`).toBeLessThan(tolerance);
    });
  }
}

describe('weightDecayExclude', () => {
  const every: DecayExclusion[] = ['norms', 'embeddings', 'biases'];

  test.each([[[]], [['norms']], [['embeddings']], [['biases']], [every]] as DecayExclusion[][][])(
    '%j: a step is the formula, with decay for all other parameters',
    (exclude) => {
      expectFirstStep(smallModel(), { weightDecayExclude: exclude });
      const everything = smallModel(EVERYTHING);
      const names = [...everything.namedParameters()].map(([name]) => exclusionOf(name));
      expect(new Set(names)).toEqual(new Set([...every, null]));
      expectFirstStep(everything, { weightDecayExclude: exclude });
      expectFirstStep(smallModel({ tieEmbeddings: true }), { weightDecayExclude: exclude });
    },
  );

  test('holds in several buffers too', () => {
    const Model = MoETransformer as unknown as new (...args: unknown[]) => MoETransformer;
    const { config } = smallModel(EVERYTHING);
    const model = new Model(config, getKernels(), { maxShardElements: 4096 });
    expect(model.store.shards.length).toBeGreaterThan(1);
    model.store.initialise(3);
    expectFirstStep(model, { weightDecayExclude: ['norms', 'biases'] });
  });

  test('costs no call of the kernel where nothing is excluded, and few where the norms are', () => {
    const calls = (weightDecayExclude: DecayExclusion[]) => {
      let count = 0;
      const kernels = Object.create(getKernels(), {
        adamw: {
          value(...args: Parameters<ReturnType<typeof getKernels>['adamw']>) {
            count++;
            getKernels().adamw(...args);
          },
        },
      });
      const model = MoETransformer.create(SMALL, { seed: 1, kernels });
      new Trainer(model, { weightDecayExclude }).trainStep(ids, targets);
      return count;
    };
    expect(calls([])).toBe(1);
    // Embedding | norm | attention | norm | experts | norm | attention | norm | experts | norm | lm_head
    expect(calls(['norms'])).toBe(11);
  });
});
