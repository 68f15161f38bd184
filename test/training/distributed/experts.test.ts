/** Trainings whose experts are divided over ranks, which are threads here: what one process trains with the same micro-batches. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LossResult, type MemoryBytes, SafetensorsFile } from '../../../src';
import { expectClose, expectRelative } from '../../helpers/close';
import { onRanks } from './ranks';

type Named = [name: string, data: Float32Array][];
interface Trained {
  results: LossResult[];
  initial: Named;
  gradients: [Named, Named];
  weights: Named;
}

/** Bytes: see rank.cjs. */
interface TakenMemory {
  making: number;
  made: number;
  trained: number;
  told: MemoryBytes;
}

/** Of float32 oracles (test/fixtures/README.md): other numbers of rows change the order of sums in products, as another backend does. */
const LOSS = 5e-6;
const GRADIENT = 5e-5;
/** Rounding of the weights of the steps before adds to that of a step. */
const RUN_LOSS = 1e-4;

const named = (ranks: number, options: Record<string, unknown>) =>
  onRanks<Trained>(ranks, { scenario: 'named', options });

/** What the ranks have together; what several have must be the same. */
function joined(parts: readonly Named[]): Map<string, Float32Array> {
  const all = new Map<string, Float32Array>();
  for (const [name, data] of parts.flat()) {
    if (all.has(name)) expect(data, name).toEqual(all.get(name));
    else all.set(name, data);
  }
  return all;
}

function expectNamed(parts: readonly Named[], one: Named, limit: number): void {
  const all = joined(parts);
  expect([...all.keys()].sort()).toEqual(one.map(([name]) => name).sort());
  for (const [name, data] of one) expectRelative(name, all.get(name)!, data, limit);
}

/** AdamW divides by the gradient's own size, so an entry whose gradient is rounding alone may move by a visible part of lr, 1e-3. */
function expectWeights(parts: readonly Named[], one: Named): void {
  const all = joined(parts);
  let [count, off] = [0, 0];
  for (const [name, data] of one) {
    const got = all.get(name)!;
    count += data.length;
    for (let i = 0; i < data.length; i++) {
      const apart = Math.abs(got[i] - data[i]);
      if (!(apart <= 1e-5)) off++;
      expect(apart, name).toBeLessThanOrEqual(1e-3);
    }
  }
  expect(off).toBeLessThanOrEqual(count / 10_000);
}

const LAYERS = { hiddenDim: 32, headDim: 8, ffnDim: 48 };

describe('experts divided over ranks', () => {
  it.each([
    ['2 ranks', 2, { groupSize: 2, train: { microBatches: 2 } }],
    [
      'groups of 2 among 4 ranks, balance and z-loss, clipping',
      4,
      { groupSize: 2, train: { microBatches: 4, zLossCoef: 0.1, auxLossAlpha: 0.05, gradClip: 0.1 } },
    ],
    ['4 ranks with an expert each', 4, { groupSize: 4, train: { microBatches: 4 } }],
    [
      '3 experts on 2 ranks, recomputed, micro-batches in parts',
      2,
      {
        groupSize: 2,
        model: { nExperts: 3, sharedFfnDim: 16 },
        train: { microBatches: 4, gradAccumulationSteps: 2, gradientCheckpointing: true },
      },
    ],
    [
      'a rank without experts, dense layers',
      2,
      {
        groupSize: 2,
        model: { nExperts: 1, topKExperts: 1, denseLayers: [0], denseFfnDim: 32 },
        train: { microBatches: 2 },
      },
    ],
    [
      'uneven counts in 2 groups, experts without tokens',
      4,
      { groupSize: 2, counts: [3, 1], starved: [1, 3], train: { microBatches: 4 } },
    ],
    [
      'chosen parameters, some of them on one rank alone',
      4,
      { groupSize: 2, train: { microBatches: 4, train: ['layers.1.*.experts.1', 'experts.*.w2', 'router'] } },
    ],
    [
      'nothing but an expert of one rank in each group',
      4,
      { groupSize: 2, train: { microBatches: 4, train: ['layers.0.block_sparse_moe.experts.3'] } },
    ],
    ['bfloat16 products', 2, { groupSize: 2, train: { microBatches: 2, precision: 'bfloat16' } }],
  ])('train to the weights of one process: %s', async (_, ranks, given) => {
    const options = { ...given, model: { ...LAYERS, ...('model' in given ? given.model : {}) } };
    const [[one], parts] = [await named(1, options), await named(ranks, options)];
    const of = (key: 'initial' | 'weights') => parts.map((part) => part[key]);
    expect(joined(of('initial'))).toEqual(joined([one.initial]));
    for (const { results } of parts) {
      expect(results).toEqual(parts[0].results);
      for (const [i, { loss, gradNorm, expertLoad }] of results.entries()) {
        expectClose('loss', loss, one.results[i].loss, LOSS);
        expectClose('gradNorm', gradNorm, one.results[i].gradNorm, GRADIENT);
        expect(expertLoad).toEqual(one.results[i].expertLoad);
      }
    }
    for (const batch of [0, 1] as const) {
      expectNamed(
        parts.map(({ gradients }) => gradients[batch]),
        one.gradients[batch],
        GRADIENT,
      );
    }
    expectWeights(of('weights'), one.weights);
    for (const e of 'starved' in given ? given.starved : []) {
      const ofExpert = one.gradients[1].filter(([name]) => name.includes(`experts.${e}.`));
      expect(ofExpert.every(([, data]) => data.every((x) => x === 0))).toBe(true);
    }
  });

  it.each([{}, { gradientCheckpointing: true }, { train: ['experts.0', 'attention', 'norms'] }])(
    'take the memory that memoryBytes tells where the load is even: %j',
    async (chosen) => {
      const sharing = { ranks: 4, microBatches: 4 };
      const told = { ...sharing, expertParallel: 2, batch: 2, seq: 6, ...chosen };
      const train = { microBatches: 4, ...chosen };
      // Every token goes to every expert.
      const options = { groupSize: 2, rows: 8, model: { topKExperts: 4 }, train, told };
      const each = await onRanks<TakenMemory>(4, { scenario: 'memory', options });
      const { total, exchange, weights } = each[0].told;
      // Threads have no library that sums.
      expect(Math.max(...each.map(({ trained }) => trained))).toBe(total - exchange);
      // Ranks that begin with the third of 4 experts draw gate and up of those before, too.
      const drawn = 4 * 4 * 2 * 128 * 64;
      expect(each.map(({ making, made }) => making - made)).toEqual([0, drawn, 0, drawn]);
      for (const { made } of each) expect(made).toBe(weights);
    },
  );

  it('a rank that has other experts than the one that shares them is told', async () => {
    const options = { what: 'experts', groupSize: 2, model: LAYERS };
    const message = 'Rank 3 has other experts than rank 1.';
    for (const each of await onRanks(4, { scenario: 'differ', options })) {
      expect(each).toMatchObject({ code: 'SGEMOE_RANKS_MISMATCH', message });
    }
  });

  it('train on pairs of answers as one process does', async () => {
    const options = { groupSize: 2, model: LAYERS, train: { microBatches: 4, auxLossAlpha: 0.05 } };
    const pairs = (ranks: number) =>
      onRanks<{ results: LossResult[] }>(ranks, { scenario: 'pairs', options });
    const [[one], parts] = [await pairs(1), await pairs(4)];
    for (const { results } of parts) {
      for (const [i, { loss, gradNorm, preferences }] of results.entries()) {
        const of = one.results[i];
        expectClose('loss', loss, of.loss, i === 0 ? LOSS : RUN_LOSS);
        expectClose('margin', preferences!.margin, of.preferences!.margin, RUN_LOSS);
        expectClose('gradNorm', gradNorm, of.gradNorm, i === 0 ? GRADIENT : RUN_LOSS);
      }
    }
  });

  it('changes of what is trained are the same on ranks that have none of the experts', async () => {
    const options = { groupSize: 2, model: LAYERS };
    const each = await onRanks<{ norms: number[]; message: string }>(4, { scenario: 'choices', options });
    for (const found of each) expect(found).toEqual(each[0]);
    expect(each[0].norms[1]).toBeGreaterThan(0);
    expect(each[0].message).toMatch(/a later Trainer has chosen them/);
  });

  it('a trainer refuses other ranks and adapters', async () => {
    const options = { groupSize: 2, model: LAYERS };
    const [{ messages }] = await onRanks<{ messages: string[] }>(2, { scenario: 'refusals', options });
    expect(messages).toEqual([
      "TypeError: collectives must be those of the model's expertRanks, which divide its experts",
      'TypeError: adapters can not be trained where experts are divided over ranks',
    ]);
  });
});

describe('a run whose experts are divided', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'sgemoe-divided-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  interface Ran {
    events: { type: string; step?: number; text?: string }[];
    result: { steps: number; validation: { loss: number }; best: { step: number } };
  }
  // 3 validation batches on 2 ranks: one is left over, which needs the experts of both.
  const SETTINGS = {
    model: { ...LAYERS, nExperts: 3 },
    save: { samples: { interval: 3, prompt: '1', maxTokens: 4 } },
  };
  const run = (ranks: number, name: string, options: Record<string, unknown>) => {
    const config = { microBatches: 4, ...(options.config as object) };
    return onRanks<Ran>(ranks, {
      scenario: 'run',
      options: { dir: join(folder, name), groupSize: 2, ...SETTINGS, ...options, config },
    });
  };
  const metrics = (name: string) =>
    readFileSync(join(folder, name, 'metrics.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { step: number; loss: number; validationLoss?: number });

  function expectSameLosses(a: string, b: string): void {
    const [got, want] = [metrics(a), metrics(b)];
    expect(got.map(({ step }) => step)).toEqual(want.map(({ step }) => step));
    for (const [i, { loss, validationLoss }] of got.entries()) {
      expectClose(`${a}, step ${i + 1}`, loss, want[i].loss, RUN_LOSS);
      if (validationLoss !== undefined)
        expectClose(`${a}, validation`, validationLoss, want[i].validationLoss!, RUN_LOSS);
    }
  }

  async function layoutOf(path: string) {
    const file = await SafetensorsFile.open(path);
    await file.close();
    return [...file.tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  }

  it('scores, trains and evaluates pairs of answers, of which the ranks have different numbers', async () => {
    const pairs = join(folder, 'pairs.jsonl');
    const rows = Array.from({ length: 37 }, (_, i) => ({ prompt: `${i}? `, chosen: 'yes', rejected: 'no' }));
    writeFileSync(pairs, rows.map((row) => JSON.stringify(row)).join('\n'));
    const [one] = await run(1, 'pairs1', { pairs });
    const ranks = await run(2, 'pairs2', { pairs });
    expect(ranks[1].result).toEqual(ranks[0].result);
    expectClose('validation', ranks[0].result.validation.loss, one.result.validation.loss, RUN_LOSS);
    expectSameLosses('pairs2', 'pairs1');
  });

  it('saves the folder of one process, and goes on with any layout', async () => {
    const [one] = await run(1, 'one', {});
    const [first, second] = await run(2, 'divided', {});
    expect(first.result.steps).toBe(8);
    expect(first.events.filter(({ type }) => type === 'sample')).toHaveLength(2);
    expect({ ...second, events: [] }).toEqual({ ...first, events: [] });
    expect(first.result.best.step).toBe(one.result.best.step);
    expectSameLosses('divided', 'one');
    for (const file of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
      expect(await layoutOf(join(folder, 'divided', file)), file).toEqual(
        await layoutOf(join(folder, 'one', file)),
      );
    }

    // Stopped after step 4 in each layout, and ended in another.
    await run(2, 'then1', { stopAt: 4 });
    cpSync(join(folder, 'then1'), join(folder, 'then4'), { recursive: true });
    await run(1, 'then1', { resume: true });
    await run(4, 'then4', { resume: true });
    await run(1, 'then2', { stopAt: 4 });
    await run(2, 'then2', { resume: true });
    for (const name of ['then1', 'then4', 'then2']) expectSameLosses(name, 'one');
  });
});
