/** Checkpoints of `transformers` load and compute what it computes: test/fixtures/hf/README.md. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { MoETransformer, Tensor, Trainer } from '../../src';
import { type Architecture, definitionOf } from '../../src/hf/architectures';
import { expectClose, expectRelative } from '../helpers/close';
import { HF_NAMES, type HfFixture, inTheirOrder, loadHfFixture } from '../helpers/hfFixture';

// The library's own float32 is 2e-7 to 8e-7 of the largest logit off; a wrong formula moves it by 3e-3 at least.
const LOGITS = 2e-5;
const LOSS = 2e-6;
const GRAD_NORM = 1e-5;
const GRADIENT = 5e-5;

describe.each(HF_NAMES)('%s', (name) => {
  let fixture: HfFixture;
  let model: MoETransformer;
  let architecture: Architecture;
  let ids: Tensor;

  beforeAll(async () => {
    fixture = await loadHfFixture(name);
    architecture = fixture.config.model_type as Architecture;
    model = await MoETransformer.load(fixture.dir);
    ids = int32('input_ids');
  });

  const want = (key: string) => fixture.expected.get(key)!.data;
  const int32 = (key: string) =>
    new Tensor(Int32Array.from(want(key)), fixture.expected.get(key)!.shape, 'int32');

  test('logits, hidden states and routing agree', () => {
    const trace = model.trace(ids);
    expectRelative('embedding', trace.embedding.data as Float32Array, want('hidden.embed'), LOGITS);
    expectRelative('norm', trace.norm.data as Float32Array, want('hidden.norm'), LOGITS);
    expectRelative('logits', trace.logits.data, want('logits'), LOGITS);
    trace.hidden.forEach((hidden, i) => {
      expectRelative(`hidden.${i}`, hidden.data as Float32Array, want(`hidden.${i}`), LOGITS);
    });
    trace.routing.forEach((routing, i) => {
      if (routing === null) return;
      const { logits, probs, weights, indices } = routing;
      for (const [key, { data }] of Object.entries({ logits, probs, topk_weights: weights })) {
        expectRelative(`router.${i}.${key}`, data as Float32Array, want(`router.${i}.${key}`), LOGITS);
      }
      expect(Array.from(indices.data as Int32Array)).toEqual(Array.from(want(`router.${i}.topk_indices`)));
    });
  });

  test('frozen, and token by token, the logits are the same', () => {
    const { vocabSize: V } = model.config;
    model.freeze({ pack: true });
    expectRelative('logits', model.forward(ids).data, want('logits'), LOGITS);
    const prompt = Array.from(want('input_ids')).slice(0, 20);
    const last = Array.from(want('logits')).slice(19 * V, 20 * V);
    expectRelative('next token', model.nextTokenLogits(prompt), last, LOGITS);
    expect(model.generateGreedy(prompt, 21)[20]).toBe(last.indexOf(Math.max(...last)));
    model.unfreeze();
  });

  test('loss and every gradient agree', () => {
    const { headDim } = model.config;
    const trainer = new Trainer(model, { auxLossAlpha: 0 });
    const result = trainer.lossAndGradients(ids, int32('targets'));
    expectClose('loss', result.crossEntropy, fixture.loss, LOSS);
    expectClose('gradient norm', result.gradNorm, fixture.gradNorm, GRAD_NORM);
    const seen = new Map<string, number>();
    for (const [name, { shape, size, grad }] of model.namedParameters()) {
      const place = definitionOf(architecture).places(model.config, name, shape)[0];
      const expected = Array.from(want(`grad.${place.name}`));
      const scale = Math.max(...expected.map(Math.abs));
      const ours = inTheirOrder(name, shape, grad!, headDim);
      for (let i = 0; i < size; i++) {
        const error = Math.abs(ours[i] - expected[place.start + i]);
        if (!(error <= GRADIENT * scale))
          throw new Error(`${name}[${i}]: off by ${error / scale} of the largest`);
      }
      seen.set(place.name, (seen.get(place.name) ?? 0) + size);
    }
    const gradients = [...fixture.expected].filter(([key]) => key.startsWith('grad.'));
    expect(gradients.map(([key, { data }]) => [key.slice(5), data.length]).sort()).toEqual([...seen].sort());
  });

  test('the config.json of version 4 is the same model', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'hf-'));
    cpSync(fixture.dir, dir, { recursive: true });
    writeFileSync(join(dir, 'config.json'), JSON.stringify(fixture.configV4));
    const other = await MoETransformer.load(dir);
    rmSync(dir, { recursive: true });
    expect(other.config).toEqual(model.config);
    expect(other.forward(ids).data).toEqual(model.forward(ids).data);
  });
});
