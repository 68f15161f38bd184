import { beforeAll, describe, expect, test } from 'vitest';
import { efficiencyOnPaper, leastSent } from '../../bench/lib/paper';
import { runRanks } from '../../bench/lib/rankRuns';
import { TwoHosts } from '../../bench/lib/twoHosts';
import { ModelConfig } from '../../src';
import { canRun } from '../backend/collectives/mpirun';
import { type Ended, runBench } from './command';

describe('training on several ranks on paper', () => {
  test('hides the sums behind the backward, and shows what the wire takes beyond', () => {
    // At 8 Gbit/s half a second for the sums, half a second for what is handed out.
    const step = { hiddenBytes: 5e8, shownBytes: 5e8, gbitPerSecond: 8 };
    expect(efficiencyOnPaper({ ...step, computeS: 1.5 })).toBeCloseTo(1.5 / 2);
    // The backward of 0.6 s lasts 0.4 s.
    expect(efficiencyOnPaper({ ...step, computeS: 0.6 })).toBeCloseTo(0.6 / (0.6 + 0.1 + 0.5));
  });

  test('sends gradients and weights in parts, and rows to the experts of others', () => {
    const config = ModelConfig.tiny({ nLayers: 3, denseLayers: [0], denseFfnDim: 8 });
    const all = config.totalParams();
    const tokens = 100;
    const whole = leastSent(config, { ranks: 4, tokens });
    expect(whole).toEqual({ hiddenBytes: 3 * all, shownBytes: 3 * all, sentBytes: 6 * all });
    const { nExperts, ffnDim: F, hiddenDim: H, topKExperts: K } = config;
    const experts = 2 * nExperts * 3 * F * H;
    // Three of four rows of two layers go away and come back, and so do their gradients.
    const rows = 4 * 2 * tokens * K * 0.75 * 4 * H;
    const divided = leastSent(config, { ranks: 4, expertParallel: 4, tokens });
    expect(divided).toEqual({
      hiddenBytes: 3 * (all - experts),
      shownBytes: 3 * (all - experts) + rows,
      sentBytes: 6 * (all - experts) + rows,
    });
    // Of two layers all but the last send rows forth and back once more.
    const again = leastSent(config, { ranks: 4, expertParallel: 4, tokens, gradientCheckpointing: true });
    expect(again.sentBytes).toBe(divided.sentBytes + rows / 4);
    // Half of the experts, which two ranks have: half of them is summed for the other, and half handed out.
    const pairs = leastSent(config, { ranks: 4, expertParallel: 2, tokens });
    expect(pairs.sentBytes).toBe(6 * (all - experts) + 2 * 4 * (experts / 2 / 2) + (rows * 0.5) / 0.75);
  });
});

const FAST = '--models small --tokens 256 --steps 1 --rounds 1'.split(' ');
const cells = (line: string) => line.split('|').map((cell) => cell.trim());

describe.skipIf(!canRun(__filename))('bench/distributed.js', () => {
  test('prints ranks beside one process', async () => {
    const { code, stdout, stderr } = await runBench('distributed.js', FAST);
    expect(code, stderr).toBe(0);
    const [head, , row] = stdout.trimEnd().split('\n').map(cells);
    expect(head).toContain('efficiency');
    expect(row[1]).toBe('small');
    expect(row[head.indexOf('over the least')]).toBe('1.000');
  });

  test('prints divided experts, whose ranks send what the paper says up to uneven load', async () => {
    const { code, stdout, stderr } = await runBench('distributed.js', [...FAST, '--expert-parallel', '2']);
    expect(code, stderr).toBe(0);
    const [head, , row] = stdout.trimEnd().split('\n').map(cells);
    expect(row[head.indexOf('layout')]).toBe('experts over 2');
    expect(Math.abs(Number(row[head.indexOf('over the least')]) - 1)).toBeLessThan(0.05);
  });

  test('ranks with divided experts send the bytes on paper where the load is even', async () => {
    // Every token goes to every expert.
    const model = { ...ModelConfig.tiny(), topKExperts: 4 };
    const [ranks, seq, steps] = [4, 256, 1];
    const job = { model, batch: ranks, seq, microBatches: ranks, steps, expertParallel: 2 };
    const { sentBytes } = await runRanks(job, { ranks, launcher: 'mpirun.openmpi', hosts: null });
    const least = leastSent(new ModelConfig(model), { ranks, expertParallel: 2, tokens: seq });
    // In each layer a number goes to each other rank, and one for each of two experts to the rank that has them.
    const said = 4 * (ranks - 1 + 2) * model.nLayers;
    expect(sentBytes).toBe(least.sentBytes + said);
  });

  describe.skipIf(TwoHosts.obstacle() !== null)('on two hosts', () => {
    let ended: Ended;
    beforeAll(async () => {
      ended = await runBench('distributed.js', [...FAST, '--bandwidth', '1']);
    });

    test('prints the efficiency on paper beside the one that is measured', () => {
      expect(ended.code, ended.stderr).toBe(0);
      const [head, , row] = ended.stdout.trimEnd().split('\n').map(cells);
      const paper = Number(row[head.indexOf('on paper at 1 Gbit/s')]);
      expect(paper).toBeGreaterThan(0);
      expect(paper).toBeLessThan(1);
    });
  });

  test.each([
    [['--bandwidth', '10', '--ranks', '4'], /--bandwidth: two hosts have --ranks 2\./],
    [['--expert-parallel', '3', '--ranks', '4'], /--expert-parallel must be a divisor of --ranks \(4\)\./],
  ])('refuses %j', async (options, message) => {
    const { code, stderr } = await runBench('distributed.js', options);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});
