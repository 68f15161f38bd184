/** Experts that are divided over ranks, which are threads here: what one process computes, with a part of the weights each. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createThreadGroup, Decoder, type ModelConfigOptions, MoETransformer, Tensor } from '../../../src';
import { ROOT } from '../../backend/child';
import { hfDir } from '../../helpers/hfFixture';
import { EVERYTHING, SMALL, SOME_DENSE, smallModel } from '../../helpers/smallModel';

interface RankResult {
  tokens: number[];
  logits: Float32Array | Float32Array[];
  refused: string | null;
  weightBytes: { resident: number; mapped: number };
  messages: string[];
  code: string;
  message: string;
}

function onRanks(size: number, scenario: string, options: object): Promise<RankResult[]> {
  const group = createThreadGroup(size);
  const runRank = (rank: number) =>
    new Promise<RankResult>((resolve, reject) => {
      const workerData = { dist: join(ROOT, 'dist'), group, rank, scenario, options };
      const worker = new Worker(join(__dirname, 'rank.cjs'), { workerData });
      worker.once('message', resolve).once('error', reject);
    });
  return Promise.all(Array.from({ length: size }, (_, rank) => runRank(rank)));
}

/** Rows are whole blocks, so that matrices can be rounded to them. */
const BLOCKS = { hiddenDim: 32, headDim: 16, ffnDim: 64, nExperts: 5 };
const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6];

let folder: string;
const pathOf = (name: string) => join(folder, name);
const MODELS: Record<string, Partial<ModelConfigOptions>> = {
  small: {},
  everything: { ...EVERYTHING, ...SOME_DENSE },
  blocks: BLOCKS,
};
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-experts-'));
  for (const [name, overrides] of Object.entries(MODELS)) await smallModel(overrides).save(pathOf(name));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What one process computes for the scenario 'lead'. */
async function alone(path: string, dtype: 'float32' | 'stored' | 'q8_0') {
  const model = await MoETransformer.load(path, { dtype });
  const tokens = model.generateGreedy(PROMPT, PROMPT.length + 12);
  const logits = new Float32Array(2 * model.vocabSize);
  const decoder = new Decoder(model, { slots: 2 });
  decoder.step(
    [
      { slot: 0, tokens: PROMPT },
      { slot: 1, tokens: [1] },
    ],
    { logits },
  );
  return { tokens, logits, weightBytes: model.weightBytes };
}

const allBytes = ({ resident, mapped }: RankResult['weightBytes']) => resident + mapped;

describe('one rank has the tokens, the others answer', () => {
  test.each([
    ['small', 'float32', 2, undefined],
    ['small', 'float32', 4, undefined],
    ['small', 'float32', 3, [0, 3, 0]],
    ['everything', 'float32', 2, [2, 1]],
    ['blocks', 'q8_0', 4, [1, 0, 3, 1]],
  ] as const)(
    '%s, %s, on %i ranks with counts %j: the tokens and logits of one process',
    async (name, dtype, size, counts) => {
      const path = pathOf(name);
      const expected = await alone(path, dtype);
      const [lead, ...others] = await onRanks(size, 'lead', { path, dtype, counts, prompt: PROMPT });
      expect(lead.tokens).toEqual(expected.tokens);
      // All rows come from one rank, in the order of one process.
      expect(lead.logits).toEqual(expected.logits);
      expect(lead.refused).toBe('RangeError');
      // Each expert is on one rank; shards pad a weight to 64 bytes.
      const whole = allBytes(expected.weightBytes);
      const sum = [lead, ...others].reduce((bytes, each) => bytes + allBytes(each.weightBytes), 0);
      expect(Math.abs(sum - whole)).toBeLessThan(64 * 8 * size);
      if (counts?.[1] === 0) expect(allBytes(others[0].weightBytes)).toBe(0);
    },
  );

  test.each(['mixtral', 'qwen2_moe', 'granitemoe'] as const)(
    'a checkpoint of %s, as it is stored',
    async (name) => {
      const path = hfDir(name);
      const expected = await alone(path, 'stored');
      const [lead] = await onRanks(2, 'lead', { path, dtype: 'stored', prompt: PROMPT });
      expect(lead.tokens).toEqual(expected.tokens);
      expect(lead.logits).toEqual(expected.logits);
    },
  );
});

test('ranks with tokens of their own, or none for some experts, each get what one process computes', async () => {
  const model = await MoETransformer.load(pathOf('small'));
  const batches = [
    [[[1, 2, 3, 4, 5]], [[7]]],
    [
      [
        [6, 5, 4],
        [3, 2, 1],
      ],
      [[8, 9, 10, 11]],
    ],
    [
      [[0]],
      [
        [19, 18],
        [17, 16],
      ],
    ],
  ];
  const results = await onRanks(3, 'together', { path: pathOf('small'), counts: [2, 0, 1], batches });
  for (const [r, { logits }] of results.entries()) {
    for (const [i, rows] of batches[r].entries()) {
      const expected = model.forward(Tensor.fromIds(rows)).data;
      // An expert has more rows than in one process, which may change the order of its sums: a few roundings of numbers near 1.
      const apart = Math.max(
        ...expected.map((value, j) => Math.abs(value - (logits as Float32Array[])[i][j])),
      );
      expect(apart).toBeLessThan(1e-5);
    }
  }
});

test('what needs all experts in one place is refused', async () => {
  const [{ messages }] = await onRanks(2, 'refusals', { path: pathOf('small') });
  expect(messages).toEqual([
    'a model whose experts are divided over ranks can not be saved by itself: saveTraining does, on all ranks',
    expect.stringContaining("LoRA: targets: 'experts' is part of no name here"),
  ]);
});

test('ranks that compute different things are told', async () => {
  const results = await onRanks(2, 'disagree', { path: pathOf('small') });
  for (const { code, message } of results) {
    expect(code).toBe('SGEMOE_RANKS_MISMATCH');
    expect(message).toBe('Rank 1 computes layer 0 in float32, one before it ends.');
  }
});

test('counts must be those of the model', async () => {
  const load = (counts: unknown, path = pathOf('small')) => {
    const collectives = { rank: 0, size: 2 } as never;
    return MoETransformer.load(path, { expertRanks: { collectives, counts: counts as number[] } });
  };
  await expect(load([1, 1])).rejects.toThrow(
    "expertRanks: counts must add up to the model's 3 experts, got 2",
  );
  await expect(load([3])).rejects.toThrow(
    'expertRanks: counts must have a number for each of 2 ranks, has 1',
  );
  await expect(load([4, -1])).rejects.toThrow('expertRanks: counts[1] must be');
  await expect(load('12')).rejects.toThrow(TypeError);
  const dense = smallModel({
    ...SMALL,
    nExperts: 0,
    topKExperts: 0,
    ffnDim: 0,
    denseLayers: [0, 1],
    denseFfnDim: 24,
  });
  await dense.save(pathOf('dense'));
  await expect(load(undefined, pathOf('dense'))).rejects.toThrow('the model must have experts');
});
