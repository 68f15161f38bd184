/** Training curves of mixed precision beside those of float32, on the project's own documents. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { evaluate, MoETransformer, type Precision, Tensor, TextDataset, Trainer } from '../../src';

const DOCS = join(__dirname, '../../docs');
const text = readdirSync(DOCS)
  .filter((name) => name.endsWith('.md'))
  .sort()
  .map((name) => readFileSync(join(DOCS, name), 'utf8'))
  .join('\n')
  .slice(0, 400_000);

const SHAPE = { batchSize: 8, seqLen: 64 };
const STEPS = 300;
const EVERY = 100;

/** Validation losses after each 100 steps; the seed is that of the weights and of the batches. */
function curve(precision: Precision, seed: number): number[] {
  const dataset = TextDataset.fromText(text);
  const model = MoETransformer.create(
    {
      ...{ vocabSize: dataset.tokenizer.vocabSize, hiddenDim: 64, nLayers: 2, nHeads: 4, nKvHeads: 2 },
      ...{ headDim: 16, nExperts: 4, topKExperts: 2, ffnDim: 96, maxSeqLen: SHAPE.seqLen },
    },
    { seed },
  );
  const trainer = new Trainer(model, { precision, lr: 3e-3, warmupSteps: 30, totalSteps: STEPS });
  const losses: number[] = [];
  for (const { ids, targets, batch, seqLen } of dataset.batches({ ...SHAPE, seed })) {
    const shape = [batch, seqLen];
    trainer.trainStep(Tensor.fromIds(ids, shape), Tensor.fromIds(targets, shape));
    if (trainer.step % EVERY !== 0) continue;
    losses.push(evaluate(model, dataset.validationBatches({ ...SHAPE, maxBatches: 20 })).loss);
    if (trainer.step === STEPS) break;
  }
  return losses;
}

test('validation losses of mixed precision differ from those of float32 by less than those of its seeds do', () => {
  const single = [1, 2, 3, 4].map((seed) => curve('float32', seed));
  const mixed = [1, 2].map((seed) => curve('bfloat16', seed));
  console.log({ single, mixed });
  for (let i = 0; i < STEPS / EVERY; i++) {
    const losses = single.map((each) => each[i]);
    const spread = Math.max(...losses) - Math.min(...losses);
    for (const [j, each] of mixed.entries()) expect(Math.abs(each[i] - single[j][i])).toBeLessThan(spread);
  }
  // It does learn: a quarter of the loss of a uniform guess is gone, and the curve falls.
  for (const each of mixed) {
    expect(each[0]).toBeLessThan(0.75 * Math.log(256));
    expect(each[2]).toBeLessThan(each[0]);
  }
});
