/** What attention needs beyond its arguments grows with the sequence, not with its square. */
import { describe, expect, it } from 'vitest';
import { ADDON, runNode } from './child';

/** Peak memory that forward and backward over S positions, one head of 16, add to a process; VmHWM is Linux's. */
const SCRIPT = `
  const fs = require('node:fs');
  const peak = () => Number(/^VmHWM:\\s+(\\d+) kB$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
  const kernels = require(process.env.ADDON).create('builtin', null, null);
  kernels.setThreads(2);
  const D = 16;
  function run(S) {
    const [q, k, v, out, dOut, dq, dk, dv] = Array.from({ length: 8 }, () => new Float32Array(S * D).fill(0.1));
    const [lse, starts, lengths] = [new Float32Array(S).fill(0), new Int32Array(1), Int32Array.of(S)];
    const matrices = [q, 0, D, k, 0, D, 0, v, 0, D, 0, out, 0, D, lse, 0];
    const shape = [starts, 0, lengths, 0, 1, S, 1, 1, D, 0.25];
    const before = peak();
    kernels.attentionForward(...matrices, ...shape);
    kernels.attentionBackward(...matrices, dOut, 0, dq, 0, dk, 0, dv, 0, ...shape);
    return peak() - before;
  }
  run(64);
  console.log(run(8192));
`;

describe.runIf(process.platform === 'linux' && ADDON !== null)('attention over 8192 positions', () => {
  it('takes less temporary memory than a tenth of one matrix of scores', async () => {
    const ended = await runNode(SCRIPT, { ADDON: ADDON as string });
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(Number(ended.stdout)).toBeLessThan((4 * 8192 ** 2) / 10);
  });
});
