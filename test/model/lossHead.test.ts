/** The loss over some tokens, block by block, against the logits of all tokens and their gradient. */
import { describe, expect, test } from 'vitest';
import { Lcg64, ModelConfig, MoETransformer, memoryBytes, Tensor, Trainer } from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { ParameterStore } from '../../src/memory/parameters';
import { type AssembledParts, assemble } from '../../src/model/assemble';
import { Lora } from '../../src/model/lora';
import { type LossTerms, ModelLoss } from '../../src/model/loss';
import type { ModelPass, PassEnd, PassMode } from '../../src/model/pass';
import { Passes } from '../../src/model/passes';
import { expectClose, expectRelative } from '../helpers/close';
import { checkGradient } from '../helpers/finiteDifferences';
import { EVERYTHING, SMALL, smallModel } from '../helpers/smallModel';

const [BATCH, SEQ] = [2, 5];
const kernels = createReferenceKernels({ floatType: 'float64' });

/** Passes whose losses are computed in blocks of at most `most` rows. */
class Cut extends Passes {
  constructor(
    parts: AssembledParts,
    private readonly most: number,
  ) {
    super(parts);
  }

  override enter(batch: number, seq: number, mode: PassMode, end: PassEnd): ModelPass {
    const pass = super.enter(batch, seq, mode, end);
    if (pass.loss) pass.loss.most = this.most;
    return pass;
  }
}

const rng = new Lcg64(5);
const ids = Array.from({ length: BATCH * SEQ }, () => rng.nextInt(SMALL.vocabSize));
const next = Array.from({ length: BATCH * SEQ }, () => rng.nextInt(SMALL.vocabSize));

/** The targets of which those at `counted` count. */
const targetsAt = (counted: readonly number[]) => next.map((id, t) => (counted.includes(t) ? id : -100));

const ALL = ids.map((_, t) => t);
const CASES: [string, number[], number][] = [
  ['all tokens at once', ALL, ALL.length],
  ['all tokens, in blocks', ALL, 4],
  ['some tokens at once', [1, 2, 6, 9], ALL.length],
  ['some tokens, in blocks, the last smaller', [0, 1, 4, 5, 6, 7, 9], 3],
  ['one token', [8], 3],
  ['none', [], 3],
];

const TERMS: LossTerms = { auxLossAlpha: 0.3, zLossCoef: 0.2, weight: 1, ignoreIndex: -100, gradScale: 0.7 };

function lossOf(parts: AssembledParts, targets: readonly number[], most: number) {
  const loss = new ModelLoss(parts, new Cut(parts, most));
  const part = { ids, targets, from: 0, batch: BATCH, seq: SEQ };
  const [sums, evaluated] = [loss.noSums(), loss.noSums()];
  loss.forward(part, TERMS, 'loss', evaluated);
  loss.forward(part, TERMS, 'train', sums);
  loss.backward(true);
  expect(evaluated).toEqual(sums);
  return sums;
}

/** Cross-entropies and the gradient of the logits, row by row. */
function byLogits(logits: ArrayLike<number>, targets: readonly number[]) {
  const V = SMALL.vocabSize;
  const gradient = new Float64Array(logits.length);
  let sum = 0;
  targets.forEach((target, t) => {
    if (target === -100) return;
    const exps = Array.from({ length: V }, (_, v) => Math.exp(logits[t * V + v]));
    const total = exps.reduce((a, b) => a + b);
    sum += Math.log(total) - logits[t * V + target];
    exps.forEach((e, v) => {
      gradient[t * V + v] = TERMS.gradScale * (e / total - (v === target ? 1 : 0));
    });
  });
  return { sum, gradient };
}

describe.each([
  ['plain', {}],
  ['tied embeddings, and all that is off by default', EVERYTHING],
])('%s', (_, overrides) => {
  test.each(CASES)('%s', (_, counted, most) => {
    const config = new ModelConfig({ ...SMALL, ...overrides });
    const model = MoETransformer.create(config, { kernels, seed: 3 });
    const targets = targetsAt(counted);
    const { data } = model.forward(Tensor.fromIds([ids.slice(0, SEQ), ids.slice(SEQ)]), { training: true });
    const want = byLogits(data, targets);
    const upstream = new Tensor(want.gradient, [BATCH, SEQ, SMALL.vocabSize], 'float64');
    model.backward(upstream, { auxLossAlpha: TERMS.auxLossAlpha, zLossCoef: TERMS.zLossCoef });

    const parts = assemble(config, new ParameterStore(kernels));
    parts.store.allocate();
    parts.store.initialise(3);
    expectClose('cross-entropy', lossOf(parts, targets, most).crossEntropy, want.sum, 1e-12);
    // The second time old gradients are overwritten.
    for (let round = 0; round < 2; round++) {
      parts.store.gradShards.forEach((shard, i) => {
        expectRelative('gradients', shard, model.store.gradShards[i], 1e-12);
      });
      lossOf(parts, targets, most);
    }
  });
});

test('adapters, also of lm_head: finite differences in blocks of some tokens', () => {
  const parts = assemble(new ModelConfig({ ...SMALL, nLayers: 1 }), new ParameterStore(kernels));
  parts.store.allocate();
  parts.store.initialise(3);
  const lora = new Lora(parts, { targets: ['attention', 'lm_head'], rank: 2 });
  lora.allocate();
  lora.attach();
  parts.lora = lora;
  for (const { data } of lora.store.parameters)
    for (let i = 0; i < data.length; i++) data[i] = (rng.nextInt(200) - 100) / 200;
  const targets = targetsAt([0, 3, 4, 7, 8]);
  const evaluate = () => {
    const sums = lossOf(parts, targets, 2);
    return TERMS.gradScale * sums.crossEntropy + sums.auxLoss + sums.zLoss;
  };
  evaluate();
  const gradients = lora.store.parameters.map(({ grad }) => grad!.slice());
  lora.store.parameters.forEach(({ name, data }, i) => {
    checkGradient(name, data, gradients[i], evaluate, 8);
  });
});

test('a vocabulary of 140,000: logits take 128 rows, and a step what a step in one block computes', () => {
  const config = {
    ...SMALL,
    hiddenDim: 4,
    nLayers: 1,
    headDim: 4,
    ffnDim: 4,
    vocabSize: 140_000,
    maxSeqLen: 160,
  };
  const rows = (seq: number) => memoryBytes(new ModelConfig(config), { batch: 1, seq }).activations;
  expect(rows(160)).toBeLessThan(1.01 * rows(128));
  const sequence = Array.from({ length: 160 }, () => rng.nextInt(140_000));
  const step = (targets: number[]) => {
    const model = MoETransformer.create(config, { seed: 1 });
    const trainer = new Trainer(model, { auxLossAlpha: 0 });
    const { crossEntropy } = trainer.lossAndGradients(Tensor.fromIds([sequence]), Tensor.fromIds([targets]));
    return { crossEntropy, gradient: model.parameter('model.norm.weight').grad!.slice() };
  };
  const halves = [0, 80].map((from) =>
    step(sequence.map((id, t) => (t >= from && t < from + 80 ? id : -100))),
  );
  const whole = step(sequence);
  expectClose('loss', whole.crossEntropy, (halves[0].crossEntropy + halves[1].crossEntropy) / 2, 1e-5);
  const mean = halves[0].gradient.map((g, i) => (g + halves[1].gradient[i]) / 2);
  expectRelative('gradient', whole.gradient, mean, 1e-4);
});

test('a step whose batches count other numbers of tokens allocates no typed array', () => {
  const model = smallModel();
  const trainer = new Trainer(model, { lr: 1e-3, warmupSteps: 0 });
  const tensors = CASES.slice(0, 5).map(([, counted]) => Tensor.fromIds([targetsAt(counted)]));
  const input = Tensor.fromIds([ids]);
  for (const targets of tensors) trainer.trainStep(input, targets);
  const { floats, ints } = model.workspace;
  const before = process.memoryUsage().arrayBuffers;
  for (let round = 0; round < 20; round++) for (const targets of tensors) trainer.trainStep(input, targets);
  expect(process.memoryUsage().arrayBuffers).toBeLessThanOrEqual(before);
  expect(model.workspace.floats).toBe(floats);
  expect(model.workspace.ints).toBe(ints);
});
