import { describe, expect, test } from 'vitest';
import {
  clipGradByGlobalNorm,
  evaluate,
  Lcg64,
  MoETransformer,
  Tensor,
  TopKSampling,
  TopPSampling,
  Trainer,
} from '../../src';
import type { Batch, StepResult } from '../../src/training/trainer';
import { expectClose, expectRelative, sameBits } from '../helpers/close';
import { SMALL, smallModel } from '../helpers/smallModel';

const config = SMALL;
const small = (seed = 1) => smallModel({}, seed);

function randomIds(batch: number, seq: number, seed: number, vocab = config.vocabSize): Tensor {
  const rng = new Lcg64(seed);
  return new Tensor(
    Int32Array.from({ length: batch * seq }, () => rng.nextInt(vocab)),
    [batch, seq],
    'int32',
  );
}

function weights(model: MoETransformer): Float32Array {
  return Float32Array.from(model.store.shards.flatMap((shard) => Array.from(shard)));
}

describe('learning', () => {
  test('a small batch is learnt by heart: loss below 0.05', () => {
    const model = small();
    const trainer = new Trainer(model, { lr: 1e-2, warmupSteps: 10, totalSteps: 300, weightDecay: 0 });
    const ids = randomIds(2, 8, 1);
    const targets = randomIds(2, 8, 2);
    for (let i = 0; i < 200; i++) trainer.trainStep(ids, targets);
    expect(trainer.lossAndGradients(ids, targets).crossEntropy).toBeLessThan(0.05);
  });

  test('copying over a distance, which needs attention, is learnt: loss nearly vanishes', () => {
    const half = 6;
    const vocab = 8;
    const model = MoETransformer.create(
      { ...config, hiddenDim: 32, headDim: 16, vocabSize: vocab + 1, ffnDim: 32 },
      { seed: 3 },
    );
    const trainer = new Trainer(model, { lr: 6e-3, warmupSteps: 50, totalSteps: 800, weightDecay: 0.01 });
    const rng = new Lcg64(5);
    // a b c d e f | a b c d e f: only the position six back predicts the second half.
    const batch = () => {
      const rows = Array.from({ length: 16 }, () => {
        const word = Array.from({ length: half }, () => rng.nextInt(vocab));
        return [...word, vocab, ...word];
      });
      const targets = rows.map((row) => row.slice(1).map((id, i) => (i < half ? -100 : id)));
      return [Tensor.fromIds(rows.map((row) => row.slice(0, -1))), Tensor.fromIds(targets)];
    };
    for (let i = 0; i < 800; i++) trainer.trainStep(...(batch() as [Tensor, Tensor]));
    const { crossEntropy } = trainer.lossAndGradients(...(batch() as [Tensor, Tensor]));
    expect(crossEntropy).toBeLessThan(0.05);
  });
});

describe('trainStep', () => {
  test('the same seed gives bit-identical runs', () => {
    const run = () => {
      const model = small(9);
      const trainer = new Trainer(model, { lr: 1e-2, warmupSteps: 2 });
      const losses = [0, 1, 2, 3, 4].map(
        (i) => trainer.trainStep(randomIds(3, 7, i), randomIds(3, 7, i + 9)).loss,
      );
      return { losses, weights: weights(model) };
    };
    const [a, b] = [run(), run()];
    expect(a.losses).toEqual(b.losses);
    expect(sameBits(a.weights, b.weights)).toBe(true);
  });

  test('the thread count does not change a single bit', () => {
    const run = (threads: number) => {
      const model = MoETransformer.create(
        { ...config, hiddenDim: 64, headDim: 32, ffnDim: 128 },
        { seed: 2 },
      );
      model.kernels.setThreads(threads);
      const trainer = new Trainer(model, { lr: 1e-2, warmupSteps: 2 });
      for (let i = 0; i < 3; i++) trainer.trainStep(randomIds(8, 32, i), randomIds(8, 32, i + 9));
      return weights(model);
    };
    const one = run(1);
    expect(sameBits(run(2), one)).toBe(true);
    expect(sameBits(run(5), one)).toBe(true);
  });

  test('reports what it did: step, learning rate, tokens, expert load that adds up to 1', () => {
    const trainer = new Trainer(small(), { lr: 1e-3, warmupSteps: 4 });
    const step = trainer.trainStep(randomIds(2, 5, 1), randomIds(2, 5, 2));
    expect(step).toMatchObject({ step: 1, lr: 2.5e-4, tokens: 10, skipped: false, zLoss: 0 });
    expect(step.loss).toBe(step.crossEntropy + step.auxLoss);
    expect(step.expertLoad).toHaveLength(config.nLayers);
    for (const load of step.expertLoad)
      expectClose(
        'load',
        load.reduce((a, b) => a + b),
        1,
        1e-12,
      );
    expect(trainer.step).toBe(1);
  });

  test('a gradient that is not finite skips the update: weights and optimizer stay as they were', () => {
    const model = small();
    const trainer = new Trainer(model, { lr: 1e-2, warmupSteps: 0 });
    const twin = small();
    const twinTrainer = new Trainer(twin, { lr: 1e-2, warmupSteps: 0 });
    const [ids, targets] = [randomIds(2, 5, 1), randomIds(2, 5, 2)];
    trainer.trainStep(ids, targets);
    twinTrainer.trainStep(ids, targets);
    const gamma = model.parameter('model.norm.weight').data;
    const kept = gamma[0];
    gamma[0] = Number.NaN;
    const skipped = trainer.trainStep(ids, targets);
    expect(skipped).toMatchObject({ skipped: true, step: 2 });
    gamma[0] = kept;
    expect(sameBits(weights(model), weights(twin))).toBe(true);
    expect([trainer.step, trainer.skippedSteps]).toEqual([1, 1]);
    trainer.trainStep(ids, targets);
    twinTrainer.trainStep(ids, targets);
    expect(sameBits(weights(model), weights(twin))).toBe(true);
  });

  test('a step overwrites what a former gradient left, in experts without tokens too', () => {
    const [ids, targets] = [Tensor.fromIds([[3]]), Tensor.fromIds([[4]])];
    const clean = small();
    new Trainer(clean).lossAndGradients(ids, targets);
    const dirty = small();
    dirty.zeroGradients();
    for (const shard of dirty.store.gradShards) shard.fill(Number.NaN);
    new Trainer(dirty).lossAndGradients(ids, targets);
    for (const [name, parameter] of dirty.namedParameters()) {
      expect(sameBits(parameter.grad!, clean.parameter(name).grad!), name).toBe(true);
    }
    const idle = clean.blocks[0].moe!.router.counts.indexOf(0);
    const { grad } = clean.parameter(`model.layers.0.block_sparse_moe.experts.${idle}.w2.weight`);
    expect(new Set(grad)).toEqual(new Set([0]));
  });

  test('int64 ids beyond int32 are refused, not wrapped', () => {
    const trainer = new Trainer(small());
    const wide = (values: bigint[]) => new Tensor(BigInt64Array.from(values), [1, 2], 'int64');
    const [good, bad] = [wide([1n, 2n]), wide([1n, 2n ** 32n + 1n])];
    expect(() => trainer.lossAndGradients(bad, good)).toThrow(/token id 4294967297 at position 1/);
    expect(() => trainer.lossAndGradients(good, bad)).toThrow(/target 4294967297 at position 1/);
    expect(() => small().forward(bad)).toThrow(/token id 4294967297/);
  });

  test('int64 ids are the same as int32 ids', () => {
    const [ids, targets] = [randomIds(2, 4, 1), randomIds(2, 4, 2)];
    const wide = (t: Tensor) => t.astype('int64');
    const a = new Trainer(small()).lossAndGradients(ids, targets);
    const b = new Trainer(small()).lossAndGradients(wide(ids), wide(targets));
    expect(b).toEqual(a);
  });
});

describe('gradient accumulation', () => {
  test('micro-batches give the gradient and cross-entropy of the big batch', () => {
    const [ids, targets] = [randomIds(5, 6, 1), randomIds(5, 6, 2)];
    // Different numbers of tokens that count: averaging averages would show.
    const data = targets.data as Int32Array;
    data.fill(-100, 0, 4);
    const big = small();
    const parts = small();
    const options = { auxLossAlpha: 0 };
    const a = new Trainer(big, options).lossAndGradients(ids, targets);
    const b = new Trainer(parts, { ...options, gradAccumulationSteps: 3 }).lossAndGradients(ids, targets);
    expectClose('crossEntropy', b.crossEntropy, a.crossEntropy, 1e-6);
    expectClose('gradNorm', b.gradNorm, a.gradNorm, 1e-5);
    for (const [name, parameter] of parts.namedParameters()) {
      expectRelative(name, parameter.grad!, big.parameter(name).grad!, 5e-5);
    }
  });

  test('the balance loss is the mean over the parts, weighted by tokens', () => {
    const [ids, targets] = [randomIds(3, 4, 1), randomIds(3, 4, 2)];
    const row = (t: Tensor, from: number, to: number) =>
      new Tensor((t.data as Int32Array).slice(from * 4, to * 4), [to - from, 4], 'int32');
    const loss = (from: number, to: number) =>
      new Trainer(small()).lossAndGradients(row(ids, from, to), row(targets, from, to)).auxLoss;
    const both = new Trainer(small(), { gradAccumulationSteps: 2 }).lossAndGradients(ids, targets);
    expectClose('auxLoss', both.auxLoss, (loss(0, 1) * 1 + loss(1, 3) * 2) / 3, 1e-6);
  });
});

describe('options and misuse', () => {
  test('the z-loss adds the mean squared log-sum-exp of the router logits', () => {
    const model = small();
    const [ids, targets] = [randomIds(2, 4, 1), randomIds(2, 4, 2)];
    const { zLoss } = new Trainer(model, { zLossCoef: 0.5 }).lossAndGradients(ids, targets);
    let want = 0;
    for (const routing of model.trace(ids).routing) {
      const lse = routing!.logits.exp().sum(1).log();
      want += 0.5 * lse.mul(lse).mean().item();
    }
    expectClose('zLoss', zLoss, want, 1e-5);
  });

  test('ignored targets are neither learnt nor counted', () => {
    const [ids, targets] = [randomIds(1, 6, 1), randomIds(1, 6, 2)];
    const masked = targets.clone();
    (masked.data as Int32Array).fill(-100, 3);
    const short = (t: Tensor) => new Tensor((t.data as Int32Array).slice(0, 3), [1, 3], 'int32');
    const a = new Trainer(small()).lossAndGradients(ids, masked).crossEntropy;
    const b = new Trainer(small()).lossAndGradients(short(ids), short(targets)).crossEntropy;
    expectClose('crossEntropy', a, b, 1e-6);
  });

  test('warmup rises linearly, the cosine ends at 10 % and stays there', () => {
    const trainer = new Trainer(small(), { lr: 1, warmupSteps: 10, totalSteps: 110 });
    expect([1, 5, 10].map((t) => trainer.getLr(t))).toEqual([0.1, 0.5, 1]);
    expectClose('middle', trainer.getLr(60), 0.55, 1e-12);
    expect(trainer.getLr(110)).toBe(0.1);
    expect(trainer.getLr(1e6)).toBe(0.1);
    expect(trainer.getLr()).toBe(trainer.getLr(1));
  });

  test('the cosine is the formula of the seed to the bit, at any step', () => {
    const trainer = new Trainer(small(), { lr: 3e-3, warmupSteps: 7, totalSteps: 1003 });
    for (let t = 8; t < 1003; t++) {
      const progress = (t - 7) / 996;
      expect(trainer.getLr(t)).toBe(3e-3 * (0.1 + 0.45 * (1 + Math.cos(Math.PI * progress))));
    }
  });

  test('a linear schedule falls evenly to minLrRatio, a constant one stays, both after the warmup', () => {
    const rates = (options: object) => {
      const trainer = new Trainer(small(), { lr: 1, warmupSteps: 10, totalSteps: 110, ...options });
      return [5, 10, 60, 109, 110, 999].map((t) => trainer.getLr(t));
    };
    expect(rates({ schedule: 'constant' })).toEqual([0.5, 1, 1, 1, 1, 1]);
    expectRelative('linear', rates({ schedule: 'linear' }), [0.5, 1, 0.55, 0.109, 0.1, 0.1], 1e-12);
    expectRelative('ratio', rates({ schedule: 'linear', minLrRatio: 0 }), [0.5, 1, 0.5, 0.01, 0, 0], 1e-12);
    const cosine = [0.5, 1, 0.75, 0.75 + 0.25 * Math.cos(0.99 * Math.PI), 0.5, 0.5];
    expectRelative('cosine', rates({ minLrRatio: 0.5 }), cosine, 1e-12);
  });

  test('clipGradByGlobalNorm scales to the bound and returns the norm before', () => {
    const model = small();
    const { gradNorm } = new Trainer(model).lossAndGradients(randomIds(2, 4, 1), randomIds(2, 4, 2));
    expect(clipGradByGlobalNorm(model, 0.25)).toBe(gradNorm);
    expectClose('clipped', model.store.gradNorm(), 0.25, 1e-6);
    expect(() => clipGradByGlobalNorm(model, 0)).toThrow(RangeError);
  });

  test('bad batches are refused before anything changes', () => {
    const model = small();
    const trainer = new Trainer(model);
    const good = randomIds(2, 4, 1);
    trainer.lossAndGradients(good, good);
    const before = model.store.gradShards[0].slice();
    const bad = good.clone();
    (bad.data as Int32Array)[5] = 20;
    expect(() => trainer.trainStep(bad, good)).toThrow(/token id 20 at position 5/);
    expect(() => trainer.trainStep(good, bad)).toThrow(/target 20 at position 5/);
    expect(() => trainer.trainStep(good, randomIds(2, 3, 1))).toThrow(/shape of ids \[2,4\], got \[2,3\]/);
    expect(() => trainer.trainStep(good, Tensor.full([2, 4], -100, { dtype: 'int32' }))).toThrow(RangeError);
    expect(() => trainer.trainStep([[1]] as never, good)).toThrow(TypeError);
    expect(() => trainer.trainStep(randomIds(1, 33, 1), randomIds(1, 33, 1))).toThrow(/maxSeqLen \(32\)/);
    expect(sameBits(model.store.gradShards[0], before)).toBe(true);
    expect(trainer.step).toBe(0);
  });

  test('what is not a model, a batch or a strategy is named', () => {
    expect(() => new Trainer(undefined as never)).toThrow(/model must be a MoETransformer, got undefined/);
    const [ids, targets] = [randomIds(1, 4, 1), randomIds(1, 4, 2)];
    const tensors = { ids, targets, batch: 1, seqLen: 4 } as never;
    expect(() => evaluate(small(), [tensors])).toThrow(/ids of a batch must be an Int32Array, got a Tensor/);
    expect(() => evaluate(small(), tensors)).toThrow(/batches must be an iterable/);
    expect(() => small().generate('abc' as never, 5)).toThrow(/array of token ids/);
    expect(() => small().generate([1], 5, 'greedy' as never)).toThrow(/pickToken/);
    expect(() => new TopPSampling(0.9, 7 as never)).toThrow(TypeError);
    expect(() => new TopKSampling(3, { temprature: 1 } as never)).toThrow(/unknown option 'temprature'/);
  });

  test('a misspelt or impossible option is named', () => {
    expect(() => new Trainer(small(), { learningRate: 1 } as never)).toThrow(/unknown option 'learningRate'/);
    expect(() => new Trainer(small(), { lr: '1' } as never)).toThrow(/lr must be a number, got string/);
    const exclude = { weightDecayExclude: 'norms' } as never;
    expect(() => new Trainer(small(), exclude)).toThrow(/weightDecayExclude must be a list, got string/);
    for (const option of [
      { lr: -1 },
      { lr: Number.NaN },
      { beta1: 1 },
      { beta2: -0.1 },
      { eps: 0 },
      { gradClip: 0 },
      { warmupSteps: 1.5 },
      { totalSteps: 0 },
      { auxLossAlpha: Number.POSITIVE_INFINITY },
      { zLossCoef: -1 },
      { gradAccumulationSteps: 0 },
      { ignoreIndex: 3 },
      { schedule: 'step' as never },
      { minLrRatio: 1.1 },
      { weightDecayExclude: ['matrices'] as never },
    ]) {
      const [[key, value]] = Object.entries(option);
      expect(() => new Trainer(small(), option)).toThrow(new RegExp(`${key} must be .*, got ${value}`));
    }
  });
});

describe('run', () => {
  function* batches(): Generator<Batch> {
    for (let seed = 0; ; seed++) {
      const ids = randomIds(2, 4, seed).data as Int32Array;
      yield { ids, targets: ids, batch: 2, seqLen: 4 };
    }
  }

  test('yields a result a step, as many as asked for, and can go on', async () => {
    const trainer = new Trainer(small());
    const seen: number[] = [];
    for await (const { step } of trainer.run({ data: batches(), steps: 3 })) seen.push(step);
    for await (const { step } of trainer.run({ data: batches(), steps: 2 })) seen.push(step);
    expect(seen).toEqual([1, 2, 3, 4, 5]);
  });

  test('timers get their turn between steps', async () => {
    const trainer = new Trainer(small());
    let ticks = 0;
    const timer = setInterval(() => ticks++, 0);
    for await (const { step } of trainer.run({ data: batches() })) if (ticks > 3 || step > 10_000) break;
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(3);
  });

  test('ends as diverged after so many skipped steps in a row, 10 unless told otherwise; 0 is never', async () => {
    const steps = async (options: { maxSkippedSteps?: number }) => {
      const trainer = new Trainer(small(), { lr: 1e30, warmupSteps: 0 });
      const seen: StepResult[] = [];
      try {
        for await (const step of trainer.run({ data: batches(), steps: 30, ...options })) seen.push(step);
      } catch (error) {
        expect(error).toMatchObject({ code: 'SGEMOE_TRAINING_DIVERGED' });
        return { diverged: true, skipped: seen.filter(({ skipped }) => skipped).length };
      }
      return { diverged: false, skipped: seen.filter(({ skipped }) => skipped).length };
    };
    expect(await steps({})).toEqual({ diverged: true, skipped: 10 });
    expect(await steps({ maxSkippedSteps: 3 })).toEqual({ diverged: true, skipped: 3 });
    expect(await steps({ maxSkippedSteps: 0 })).toEqual({ diverged: false, skipped: 29 });
    const negative = new Trainer(small()).run({ data: batches(), maxSkippedSteps: -1 });
    await expect(negative.next()).rejects.toThrow(/maxSkippedSteps must be an integer >= 0, got -1/);
  });

  test('an abort throws its reason, or ends the run when asked to', async () => {
    const run = async (onAbort: 'throw' | 'return') => {
      const trainer = new Trainer(small());
      const controller = new AbortController();
      for await (const { step } of trainer.run({ data: batches(), signal: controller.signal, onAbort })) {
        if (step === 2) controller.abort(new Error('enough'));
      }
      return trainer.step;
    };
    await expect(run('throw')).rejects.toThrow('enough');
    expect(await run('return')).toBe(2);
  });

  test('an abort ends a wait for data, and an aborted signal asks for none', async () => {
    let pulled = 0;
    const source = {
      [Symbol.asyncIterator]: () => ({
        next() {
          pulled++;
          return new Promise<never>(() => {});
        },
      }),
    };
    const run = async (signal: AbortSignal) => {
      for await (const { step } of new Trainer(small()).run({ data: source, signal })) expect(step).toBe(0);
    };
    const controller = new AbortController();
    const waiting = run(controller.signal);
    setTimeout(() => controller.abort(new Error('enough')), 5);
    await expect(waiting).rejects.toThrow('enough');
    await expect(run(AbortSignal.abort(new Error('before')))).rejects.toThrow('before');
    expect(pulled).toBe(1);
  });

  test('leaving the loop closes the data', async () => {
    let closed = false;
    function* source(): Generator<Batch> {
      try {
        yield* batches();
      } finally {
        closed = true;
      }
    }
    for await (const { step } of new Trainer(small()).run({ data: source() })) if (step === 2) break;
    expect(closed).toBe(true);
  });

  test('impossible options are named', async () => {
    const run = async (options: object) => {
      for await (const { step } of new Trainer(small()).run(options as never)) expect(step).toBe(0);
    };
    await expect(run({})).rejects.toThrow(/data must be an iterable/);
    await expect(run({ data: batches(), steps: Number.NaN })).rejects.toThrow(/steps must be an integer/);
    await expect(run({ data: batches(), steps: '2' })).rejects.toThrow(TypeError);
    await expect(run({ data: batches(), onAbort: 'stop' })).rejects.toThrow(/'throw' or 'return'/);
    await expect(run({ data: batches(), limit: 3 })).rejects.toThrow(/unknown option 'limit'/);
  });
});

describe('batches that are not what they say', () => {
  const ids = randomIds(2, 4, 1).data as Int32Array;
  const good = { ids, targets: ids, batch: 2, seqLen: 4 };

  test.each([
    ['too few ids', { ...good, ids: ids.slice(3) }, /ids must hold batch \* seqLen = 8 tokens, got 5/],
    ['too many targets', { ...good, targets: new Int32Array(80) }, /targets must hold .* got 80/],
    ['no ids', { ...good, ids: undefined as never }, /ids must hold .* got undefined/],
    ['half a row', { ...good, batch: 1.5 }, /batch must be an integer >= 0, got 1.5/],
    ['nothing', { ids: new Int32Array(0), targets: new Int32Array(0), batch: 0, seqLen: 4 }, /no target/],
  ])('%s: refused by run and evaluate', async (_, batch, message) => {
    const trainer = new Trainer(small());
    const run = async () => {
      for await (const { step } of trainer.run({ data: [batch] })) expect(step).toBe(1);
    };
    await expect(run()).rejects.toThrow(message);
    expect(() => evaluate(trainer.model, [batch])).toThrow(message);
    expect(trainer.step).toBe(0);
  });
});

describe('evaluate', () => {
  test('is the mean over tokens, whatever the batch sizes, and changes nothing', () => {
    const model = small();
    const ids = randomIds(3, 8, 1).data as Int32Array;
    const targets = randomIds(3, 8, 2).data as Int32Array;
    const batch = (from: number, to: number, seqLen: number): Batch => ({
      ids: ids.slice(from, to),
      targets: targets.slice(from, to),
      batch: (to - from) / seqLen,
      seqLen,
    });
    const one = evaluate(model, [batch(0, 24, 8)]);
    const { crossEntropy } = new Trainer(model).lossAndGradients(
      new Tensor(ids, [3, 8], 'int32'),
      new Tensor(targets, [3, 8], 'int32'),
    );
    expectClose('loss', one.loss, crossEntropy, 1e-6);
    expect(one.countedTokens).toBe(24);
    expectClose('perplexity', one.perplexity, Math.exp(one.loss), 1e-12);
    expectClose(
      'bits',
      evaluate(model, [batch(0, 24, 8)], { bytesPerToken: 2 }).bitsPerByte,
      one.loss / Math.LN2 / 2,
      1e-12,
    );
    const split = evaluate(model, [batch(0, 8, 8), batch(8, 24, 8)]);
    expectClose('split', split.loss, one.loss, 1e-6);
    expect(() => evaluate(model, [])).toThrow(RangeError);
  });
});
