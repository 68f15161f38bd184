import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ROOT, runBench, temporaryFolder } from './command';

describe('bench/convergence.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);

  test('learns a fixed batch, evaluates on held-out text, writes JSON and curves', async () => {
    const steps = ['--fixed-steps', '40', '--text-steps', '4'];
    const data = join(ROOT, 'docs', 'gradients', 'moe.md');
    const { code, stderr } = await runBench('convergence.js', [
      '--out',
      folder.path,
      '--data',
      data,
      ...steps,
    ]);
    expect(stderr).toMatch(/Fixed batch: loss .* the busiest expert's load .* times an equal share/);
    expect(code).toBe(0);
    const report = JSON.parse(readFileSync(join(folder.path, 'convergence.json'), 'utf8'));
    expect(report.fixed_batch.settings).toMatchObject({ batch: 2, seq: 8, lr: 1e-3, warmupSteps: 10 });
    expect(report.fixed_batch.losses).toHaveLength(40);
    expect(report.fixed_batch.final_loss).toBeLessThan(report.fixed_batch.first_loss - 1);
    expect(report.text.validation.at(-1)).toEqual({ step: 4, loss: expect.any(Number) });
    expect(report.text.validation_loss).toBeLessThan(report.text.first_loss);
    for (const { shares } of report.fixed_batch.expert_load) {
      expect(shares.slice(0, 4).reduce((sum: number, share: number) => sum + share)).toBeCloseTo(1, 6);
    }
    for (const name of ['fixed_batch', 'text']) {
      const svg = readFileSync(join(folder.path, `${name}.svg`), 'utf8');
      expect(svg).toMatch(/^<svg /);
      expect(svg).toContain('expert load');
    }
  });
});
