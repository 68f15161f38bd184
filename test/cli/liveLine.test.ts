import { describe, expect, it } from 'vitest';
import { JobProgress } from '../../src/cli/terminal/liveLine';

function harness(isTTY: boolean) {
  let seconds = 0;
  let written = '';
  const out = { write: (text: string) => (written += text), isTTY, columns: 10 };
  const progress = new JobProgress(out, () => seconds);
  const at = (time: number, line: string) => {
    seconds = time;
    progress.update(() => line);
  };
  return { at, progress, text: () => written };
}

describe('progress of a job', () => {
  it('is a line that is drawn over on a terminal, cut to its width, and gone in the end', () => {
    const { at, progress, text } = harness(true);
    at(0.05, 'too soon');
    at(0.2, 'one');
    at(0.4, 'longer than a line');
    progress.clear();
    progress.clear();
    expect(text()).toBe('\r\x1b[Kone\r\x1b[Klonger th\r\x1b[K');
  });

  it('is a line every ten seconds elsewhere', () => {
    const { at, progress, text } = harness(false);
    for (const time of [1, 9.9, 10, 15, 20]) at(time, `at ${time}`);
    progress.clear();
    expect(text()).toBe('at 10\nat 20\n');
  });
});
