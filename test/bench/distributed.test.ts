import { beforeAll, describe, expect, test } from 'vitest';
import { efficiencyOnPaper, leastSentBytes } from '../../bench/lib/dataParallel';
import { TwoHosts } from '../../bench/lib/twoHosts';
import { canRun } from '../backend/collectives/mpirun';
import { type Ended, runBench } from './command';

describe('data-parallel training on paper', () => {
  test('hides the sums behind the backward, and shows what the wire takes beyond', () => {
    // 1 GB at 8 Gbit/s: half a second for the sums, half a second for what is handed out.
    const step = { sentBytes: 1e9, gbitPerSecond: 8 };
    expect(efficiencyOnPaper({ ...step, computeS: 1.5 })).toBeCloseTo(1.5 / 2);
    // The backward of 0.6 s lasts 0.4 s.
    expect(efficiencyOnPaper({ ...step, computeS: 0.6 })).toBeCloseTo(0.6 / (0.6 + 0.1 + 0.5));
    expect(leastSentBytes(1e6, 4)).toBe(6e6);
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

  test('refuses more ranks than hosts', async () => {
    const { code, stderr } = await runBench('distributed.js', ['--bandwidth', '10', '--ranks', '4']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/--bandwidth: two hosts have --ranks 2\./);
  });
});
