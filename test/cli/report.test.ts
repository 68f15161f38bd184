import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CurveBuilder } from '../../src/cli/report/curves';
import { LoadMapBuilder } from '../../src/cli/report/loadMap';
import { readRun } from '../../src/cli/report/readRun';
import { writeRun } from './reportRuns';
import { sgemoe, temporaryFolder } from './run';

function curveOf(values: readonly unknown[], mostBins?: number) {
  const builder = new CurveBuilder(mostBins);
  values.forEach((value, i) => {
    builder.add(i + 1, value);
  });
  return builder.build();
}

describe('a curve', () => {
  test('of few steps is as it was', () => {
    expect(curveOf([3, 2.5, Number.NaN, null, 1.123456])).toEqual({
      steps: [1, 2, 5],
      mean: [3, 2.5, 1.1235],
      range: null,
    });
  });

  test('of many steps keeps its ends, its extremes and its mean in so many points', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -999, max: 999 }), { minLength: 1, maxLength: 200 }),
        (values) => {
          const { steps, mean, range } = curveOf(values, 8);
          expect(mean.length).toBeLessThanOrEqual(8);
          expect(steps.at(-1)).toBe(values.length);
          expect(Math.max(...(range?.high ?? mean))).toBe(Math.max(...values));
          expect(Math.min(...(range?.low ?? mean))).toBe(Math.min(...values));
          const widths = steps.map((step, i) => step - (steps[i - 1] ?? 0));
          const sum = mean.reduce((total, value, i) => total + value * widths[i], 0);
          // Means have five digits.
          expect(Math.abs(sum - values.reduce((a, b) => a + b))).toBeLessThanOrEqual(
            1e-5 * 999 * values.length,
          );
        },
      ),
    );
  });

  test('shows a spike of one step in a long run', () => {
    const { range, steps } = curveOf(Array.from({ length: 50_000 }, (_, i) => (i === 30_000 ? 77 : 1)));
    expect(steps.length).toBeLessThanOrEqual(1000);
    expect(range?.high.filter((value) => value === 77)).toHaveLength(1);
  });
});

describe('a load map', () => {
  const mapOf = (steps: number, load: number[][]) => {
    const builder = new LoadMapBuilder();
    for (let step = 1; step <= steps; step++) builder.add(step, load);
    return builder.build();
  };

  test('holds the shares of all layers, column by column', () => {
    const map = mapOf(3, [
      [1, 0],
      [0.25, 0.25, 0.5],
    ])!;
    expect(map).toMatchObject({ expertsPerLayer: [2, 3], firstSteps: [1, 2, 3], lastSteps: [1, 2, 3] });
    const bytes = Buffer.from(map.shares, 'base64');
    const shares = Array.from({ length: 5 }, (_, i) => bytes.readUInt16LE(2 * (2 * 5 + i)) / 65_535);
    shares.forEach((share, i) => {
      expect(share).toBeCloseTo([1, 0, 0.25, 0.25, 0.5][i], 4);
    });
  });

  test('is bounded, however many experts and steps there are', () => {
    const wide = Array.from({ length: 40 }, () => new Array<number>(128).fill(1 / 128));
    const map = mapOf(60, wide)!;
    expect(map.lastSteps.at(-1)).toBe(60);
    expect(map.shares.length).toBeLessThan(300_000);
    expect(mapOf(1000, [[0.5, 0.5]])!.lastSteps.length).toBeLessThanOrEqual(200);
    expect(mapOf(0, [])).toBeNull();
  });
});

describe('a run', () => {
  test('counts its skipped steps, and ignores an unfinished line and values that are not numbers', async () => {
    const skipped = JSON.stringify({ step: 21, crossEntropy: null, skipped: true });
    const odd = JSON.stringify({ step: 22, crossEntropy: 'x', expertLoad: [['y']] });
    const folder = writeRun('odd', { steps: 20, cutOff: `${skipped}\n${odd}\n{"step":23,"cross` });
    const run = await readRun(folder);
    expect(run).toMatchObject({ name: 'odd', steps: 22, skippedSteps: 1, parameters: null });
    expect(run.curves.crossEntropy.steps).toHaveLength(20);
    expect(run.curves.validationLoss).toEqual({ steps: [10, 20], mean: [3, 3], range: null });
    expect(run.load?.lastSteps).toHaveLength(20);
  });

  test('tells of its router, by the worst layer', async () => {
    const load = () => [
      [0.5, 0.5],
      [1, 0],
    ];
    const { curves } = await readRun(writeRun('router', { steps: 1, load }));
    expect([curves.loadEntropy.mean, curves.maxOverMean.mean, curves.deadExperts.mean]).toEqual([
      [0],
      [2],
      [1],
    ]);
  });

  test('with dense layers tells of the others; with dense layers alone it has no map', async () => {
    const some = await readRun(writeRun('some', { steps: 1, load: () => [[], [1, 0]] }));
    expect([some.curves.loadEntropy.mean, some.curves.deadExperts.mean]).toEqual([[0], [1]]);
    expect(some.load).toMatchObject({ expertsPerLayer: [0, 2] });
    const none = await readRun(writeRun('none', { steps: 1, load: () => [[], []] }));
    expect([none.curves.loadEntropy.mean, none.load]).toEqual([[], null]);
    expect(none.curves.crossEntropy.steps).toEqual([1]);
  });

  test('of many samples keeps some, evenly, and the last', async () => {
    const samples = Array.from({ length: 999 }, (_, i) => ({
      step: i + 1,
      prompt: '',
      text: 'x'.repeat(5000),
    }));
    const run = await readRun(writeRun('many', { steps: 1, samples }));
    expect(run.samples.length).toBeLessThanOrEqual(201);
    expect(run.samplesOmitted).toBe(999 - run.samples.length);
    const steps = run.samples.map(({ step }) => step);
    expect(steps.slice(0, 3)).toEqual([1, 9, 17]);
    expect(steps.slice(-2)).toEqual([993, 999]);
    expect(run.samples[0].text.length).toBeLessThan(4010);
  });
});

describe('sgemoe report', () => {
  test('writes one file into the folder of the run, and again over its own', async () => {
    const folder = writeRun('book', { steps: 30 });
    const out = join(folder, 'report.html');
    for (let i = 0; i < 2; i++) {
      const { code, stdout, stderr } = await sgemoe(['report', folder]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toMatch(/report\.html'?: 1 run, [\d.]+ kB\n$/);
    }
    const page = readFileSync(out, 'utf8');
    expect(page).toMatch(/Permission is hereby granted/);
    expect(page.match(/<(link|img|iframe|script [^>]*src)\b/g)).toBeNull();
  });

  test('keeps what runs hold out of the markup', async () => {
    const text = '</script><script>window.hurt = 1</script><!--<script>';
    const samples = [{ step: 1, prompt: text, text }];
    const folder = writeRun('<img src=x>', { steps: 2, samples, run: { options: { [text]: text } } });
    await sgemoe(['report', folder]);
    const page = readFileSync(join(folder, 'report.html'), 'utf8');
    expect(page).not.toMatch(/window\.hurt = 1<|<img|<!--/);
    expect(page.match(/<\/script>/g)).toHaveLength(3);
    const data = /<script type="application\/json" id="data">(.*)<\/script>/.exec(page)![1];
    expect(JSON.parse(data).runs[0]).toMatchObject({ name: '<img src=x>', samples });
  });

  test('a long run makes a file of bounded size', async () => {
    const load = () => [new Array<number>(64).fill(1 / 64)];
    const folder = writeRun('long', { steps: 12_000, loss: (step) => Math.sin(step), load });
    await sgemoe(['report', folder]);
    // 1,000 points of three numbers for each of eight curves, 100,000 cells in base64, the chart library and our own.
    expect(statSync(join(folder, 'report.html')).size).toBeLessThan(8 * 1000 * 4 * 9 + 270_000 + 120_000);
  });

  test('runs of one name go by their paths, and a folder given twice is one run', async () => {
    const runs = [writeRun('same', { steps: 2 }), writeRun('same', { steps: 2 })];
    const out = join(temporaryFolder(), 'two.html');
    expect((await sgemoe(['report', ...runs, runs[0], '--out', out])).stdout).toMatch(/: 2 runs, /);
    expect(readFileSync(out, 'utf8')).toContain(`"name":${JSON.stringify(runs[1])}`);
  });

  test('impossible requests are refused in a sentence, and nothing is written', async () => {
    const folder = writeRun('book', { steps: 1 });
    const other = join(dirname(folder), 'other.html');
    writeFileSync(other, '<p>mine');
    const refusals: [string[], RegExp][] = [
      [['report'], /missing required argument 'runs'/],
      [['report', dirname(folder)], /holds no run of sgemoe train: there is no .*metrics\.jsonl/],
      [['report', folder, '--out', other], /is a file that is not a report of sgemoe/],
      [['report', folder, '--out', join(folder, 'none', 'x.html')], /can't be written/],
      [['report', ...new Array<string>(17).fill(folder)], /at most 16 runs, got 17/],
    ];
    for (const [argv, message] of refusals) {
      const { code, stderr } = await sgemoe(argv);
      expect(stderr).toMatch(message);
      expect(code, argv.join(' ')).toBe(2);
    }
    expect(readFileSync(other, 'utf8')).toBe('<p>mine');
    expect(existsSync(join(folder, 'report.html'))).toBe(false);
  });
});
