import { describe, expect, it } from 'vitest';
import { formatDuration, formatRate, shellQuote } from '../../src/cli/terminal/format';
import { Progress, type ProgressStep } from '../../src/cli/terminal/progress';

function progressOn({ isTTY, columns }: { isTTY: boolean; columns?: number }) {
  const written: string[] = [];
  const clock = { seconds: 0 };
  const out = { write: (text: string) => written.push(text), isTTY, columns };
  const progress = new Progress(out, { totalSteps: 100, now: () => clock.seconds });
  const step = (
    step: number,
    { validationLoss, ...more }: Partial<ProgressStep> & { validationLoss?: number } = {},
  ) => {
    const evaluationFollows = validationLoss !== undefined;
    const figures = { crossEntropy: 2, tokens: 1000, seconds: 0.5, skipped: false };
    progress.update({ step, evaluationFollows, ...figures, ...more });
    if (evaluationFollows) progress.evaluated(step, validationLoss);
  };
  return { progress, written, clock, step };
}

describe('Progress without a terminal', () => {
  it('writes whole lines: the first step, each evaluation, the last step, else one in 10 s', () => {
    const { written, clock, step } = progressOn({ isTTY: false });
    for (let done = 1; done <= 100; done++) {
      clock.seconds = done;
      step(done, done === 15 ? { validationLoss: 2.25 } : {});
    }
    const steps = written.map((line) => Number(/^step +(\d+)\/100 /.exec(line)![1]));
    expect(steps).toEqual([1, 11, 15, 25, 35, 45, 55, 65, 75, 85, 95, 100]);
    expect(
      written.every((line) => line.endsWith('\n') && !line.includes('\x1b') && !line.includes('\r')),
    ).toBe(true);
    expect(written[2]).toBe('step  15/100  loss 2.000  validation 2.250  2.0k tokens/s  ETA 1:25\n');
  });

  it('leaves skipped steps out of the means', () => {
    const { written, clock, step } = progressOn({ isTTY: false });
    step(1);
    clock.seconds = 20;
    step(2, { crossEntropy: Number.NaN, skipped: true });
    expect(written[1]).toContain('loss 2.000');
  });
});

describe('Progress on a terminal', () => {
  it('draws one line over and over, no wider than the terminal, and keeps those with an evaluation', () => {
    const { progress, written, clock, step } = progressOn({ isTTY: true, columns: 30 });
    step(1);
    clock.seconds = 0.05;
    step(2);
    clock.seconds = 0.2;
    step(3);
    expect(written).toHaveLength(2);
    for (const text of written) {
      expect(text.startsWith('\r\x1b[K')).toBe(true);
      expect(text.slice(4).length).toBeLessThan(30);
    }
    step(4, { validationLoss: 2 });
    const kept = written.slice(2).join('');
    expect(kept.startsWith('\r\x1b[Kstep   4/100 ')).toBe(true);
    expect(kept).toMatch(/validation 2\.000.*\n$/);
    progress.clear();
    expect(written).toHaveLength(4);
  });
});

it('a terminal that does not know its width is taken for one of 80 columns', () => {
  const { written, step } = progressOn({ isTTY: true, columns: 0 });
  step(1);
  expect(written[0]).toContain('step   1/100  loss 2.000');
});

describe('formats', () => {
  it('write durations, rates and shell words as people do', () => {
    expect([7, 754, 3723, Number.NaN].map(formatDuration)).toEqual(['0:07', '12:34', '1:02:03', '-']);
    expect([0.5, 932, 8432, 41_000].map(formatRate)).toEqual(['0.5', '932', '8.4k', '41k']);
    expect(['runs/a', 'my run', "it's"].map(shellQuote)).toEqual(['runs/a', "'my run'", "'it'\\''s'"]);
  });
});
