import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { createKernels } from '../../src';
import { runBench, temporaryFolder } from './command';

interface Shape {
  id: string;
  steps: string[];
  gflops: Record<'builtin' | 'library' | 'choice', number>;
  choice_over_better: number;
  choice_over_builtin: number;
}

const hasLibrary = createKernels('auto').info.blas !== null;

describe('bench/crossover.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);

  test.runIf(hasLibrary)(
    'times the matmuls of a step three ways and says what the choice loses',
    async () => {
      const out = join(folder.path, 'crossover.json');
      const options = ['--trials', '3', '--threads', '1', '--filter', 'tiny train', '--out', out];
      const { code, stdout, stderr } = await runBench('crossover.js', options);
      expect(code, stderr).toBe(0);
      const report = JSON.parse(readFileSync(out, 'utf8'));
      const shapes: Shape[] = report.shapes;
      expect(report.metadata).toMatchObject({ threads: 1, n_trials: 3, blas: expect.any(String) });

      const ids = shapes.map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      expect(ids).toEqual(
        expect.arrayContaining(['NT 16x96x64', 'NN 16x64x96', 'TN 96x64x16', 'NT 16x1000x64']),
      );
      const rows = /^NT \[(\d+)\+(\d+)\+(\d+)\+(\d+)\]x512x64$/;
      const grouped = ids.map((id) => rows.exec(id)).find((match) => match !== null);
      const assignments = grouped?.slice(1).reduce((sum, count) => sum + Number(count), 0);
      expect(assignments).toBe(2 * 8 * 2);

      const losses = shapes.map((shape) => {
        expect(shape.steps).toContain('tiny train');
        for (const rate of Object.values(shape.gflops)) expect(rate).toBeGreaterThan(0);
        return Math.max(0, 1 - shape.choice_over_better);
      });
      const worst = (100 * Math.max(...losses)).toFixed(1);
      expect(stdout).toContain(`The choice loses at most ${worst} % against the better of the two: `);
      const gains = shapes.map((shape) => shape.choice_over_builtin);
      const mean = gains.reduce((product, gain) => product * gain, 1) ** (1 / gains.length);
      const [least, most] = [Math.min(...gains), Math.max(...gains)].map((gain) => gain.toFixed(2));
      expect(stdout).toContain(
        `${mean.toFixed(2)} times as fast as the built-in kernel alone (${least} to ${most}).`,
      );
      expect(stdout.split('\n').filter((line) => /^\| [NT]{2} /.test(line))).toHaveLength(ids.length);
    },
  );

  test.runIf(hasLibrary)(
    'a filter that matches nothing ends with the names of the steps and exit code 2',
    async () => {
      const { code, stderr } = await runBench('crossover.js', ['--filter', 'enormous']);
      expect(code).toBe(2);
      expect(stderr).toMatch(/--filter enormous matches no shape\. The steps are: tiny forward, .*cube/);
    },
  );

  test.skipIf(hasLibrary)('without a library there is nothing to compare, exit code 2', async () => {
    const { code, stderr } = await runBench('crossover.js', ['--trials', '1']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/no BLAS library/);
  });
});
