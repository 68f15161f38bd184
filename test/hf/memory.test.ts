/** Loading takes little more memory than the model: measured in a separate process, whose peak the system tells. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportHuggingFace, MoETransformer } from '../../src';

const DIST = resolve(__dirname, '../../dist');

/** Bound of the growth of the process's peak, as a ratio of the float32 size. */
const LIMIT = 1.15;

// Prints the growth of the process's peak by loading, and the logits' sum, so that they are used.
const PROGRAM = `
const { readFileSync } = require('node:fs');
const { MoETransformer, Tensor } = require(process.argv[1]);
const peak = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
// The library, its addon and what a first model brings along are there before.
MoETransformer.create({ hiddenDim: 8, nLayers: 1, nHeads: 1, nKvHeads: 1, headDim: 8, nExperts: 1, topKExperts: 1, ffnDim: 8, vocabSize: 8, maxSeqLen: 8 });
const before = peak();
MoETransformer.load(process.argv[2]).then((model) => {
  const risen = peak() - before;
  console.log(JSON.stringify({ risen, size: 4 * model.config.totalParams(), value: model.parameter('model.norm.weight').data[0] }));
});
`;

// 45 million parameters are 180 MB of float32; the process's own memory differs by a few MB from run to run.
const CONFIG = {
  hiddenDim: 256,
  nLayers: 2,
  nHeads: 4,
  nKvHeads: 2,
  headDim: 64,
  nExperts: 8,
  topKExperts: 2,
  ffnDim: 3328,
  vocabSize: 6000,
  maxSeqLen: 64,
};

describe.runIf(process.platform === 'linux')('peak memory of loading', () => {
  const root = mkdtempSync(join(tmpdir(), 'hf-memory-'));
  afterAll(() => rmSync(root, { recursive: true }));

  beforeAll(async () => {
    const model = MoETransformer.create(CONFIG);
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      await exportHuggingFace(join(root, dtype), model, { dtype });
    }
    const granite = MoETransformer.create({ ...CONFIG, logitsDivisor: 2 });
    await exportHuggingFace(join(root, 'granite'), granite, { dtype: 'bf16' });
    await granite.save(join(root, 'ours'));
  });

  test.each(['f32', 'bf16', 'f16', 'granite', 'ours'])('%s: at most 1.15 times the float32 size', (name) => {
    const args = ['-e', PROGRAM, DIST, join(root, name)];
    const { risen, size, value } = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
    expect(value).toBe(1);
    expect(size).toBeGreaterThan(170e6);
    expect(risen).toBeLessThan(LIMIT * size);
    // The weights are really there.
    expect(risen).toBeGreaterThan(0.8 * size);
  });
});
