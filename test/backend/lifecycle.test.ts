/** A process that loaded the addon ends as one that didn't: with its own exit code and without a signal. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { scaled } from '../helpers/scale';
import { ADDON, type Ended, ROOT, runNode } from './child';

const REPETITIONS = 4;

/** Defines `work(milliseconds)`: matmuls large enough to start the pool, on two threads. */
const WORK = `
  const kernels = require(process.env.ADDON).create('auto', null, null);
  kernels.setThreads(2);
  function work(milliseconds) {
    const n = 256;
    const [a, b, c] = [1, 2, 3].map(() => new Float32Array(n * n).fill(1));
    const end = Date.now() + milliseconds;
    do kernels.sgemm(false, false, n, n, n, 1, a, 0, n, b, 0, n, 0, c, 0, n); while (Date.now() < end);
    if (c[0] !== n) throw new Error('wrong product ' + c[0]);
  }
`;

/** A script in which \`startWorker(body)\` runs WORK and then the body in a worker. */
function script(body: string): string {
  return `
    const { Worker } = require('node:worker_threads');
    const startWorker = (body) =>
      new Worker(${JSON.stringify(WORK)} + "const { parentPort } = require('node:worker_threads');" + body, { eval: true });
    ${body}
  `;
}

async function expectEachTime(source: string, expected: Partial<Ended>): Promise<void> {
  for (let i = 0; i < REPETITIONS; i++) {
    const ended = await runNode(source, { ADDON: ADDON as string });
    expect(ended).toMatchObject({ signal: null, ...expected });
  }
}

describe.skipIf(ADDON === null)('a process with the addon', () => {
  it('ends after a worker that alone loaded it has ended', () =>
    expectEachTime(
      // The pool's threads get time to trip over an addon that was unloaded with the worker.
      script(
        `startWorker('work(20)').on('exit', (code) => setTimeout(() => console.log('worker ended', code), 50));`,
      ),
      { code: 0, stdout: 'worker ended 0\n', stderr: '' },
    ));

  it('lives on after such a worker, and loads the addon again in another', () =>
    expectEachTime(
      script(`
        startWorker('work(20)').on('exit', () =>
          setTimeout(() => startWorker('work(20)').on('exit', (code) => console.log('second', code)), 20));
      `),
      { code: 0, stdout: 'second 0\n', stderr: '' },
    ));

  it('ends when a worker is terminated in the midst of its work', () =>
    expectEachTime(
      script(`
        const worker = startWorker("parentPort.postMessage('at work'); work(60000)");
        worker.once('message', () => setTimeout(() => worker.terminate().then((code) => console.log(code)), 20));
      `),
      { code: 0, stdout: '1\n', stderr: '' },
    ));

  it('ends with the code of process.exit in the main thread, whatever a worker does', () =>
    expectEachTime(
      script(`
        startWorker("parentPort.postMessage('at work'); work(60000)")
          .once('message', () => setTimeout(() => process.exit(7), 20));
      `),
      { code: 7, stderr: '' },
    ));

  it('ends with the code of process.exit inside the worker', () =>
    expectEachTime(
      script(`startWorker('work(20); process.exit(5)').on('exit', (code) => process.exit(code));`),
      {
        code: 5,
        stderr: '',
      },
    ));

  it('ends with code 1 after an uncaught exception in the main thread while a worker is at work', () =>
    expectEachTime(
      script(`
        startWorker("parentPort.postMessage('at work'); work(60000)")
          .once('message', () => setTimeout(() => { throw new Error('as intended'); }, 20));
      `),
      { code: 1, stderr: expect.stringContaining('as intended') as unknown as string },
    ));

  it('ends with code 1 after an uncaught exception inside the worker', () =>
    expectEachTime(script(`startWorker("work(20); throw new Error('as intended')");`), {
      code: 1,
      stderr: expect.stringContaining('as intended') as unknown as string,
    }));

  it('serves two workers at once', () =>
    expectEachTime(
      script(`
        let ended = 0;
        for (let i = 0; i < 2; i++) startWorker('work(50)').on('exit', (code) => { ended += code === 0 ? 1 : 10; });
        process.on('exit', () => console.log(ended));
      `),
      { code: 0, stdout: '2\n', stderr: '' },
    ));

  it('serves the main thread and a worker, and ends while both have it loaded', () =>
    expectEachTime(
      script(`
        ${WORK}
        startWorker("work(50); parentPort.postMessage('done'); setInterval(() => work(1), 5)")
          .once('message', () => { work(20); process.exit(0); });
        work(50);
      `),
      { code: 0, stderr: '' },
    ));

  it(
    'ends as it should when threads that load or compute are ended, at random moments',
    async () => {
      const count = String(scaled(30));
      const script = join(ROOT, '.ci', 'terminations.js');
      const { stdout } = await promisify(execFile)(process.execPath, [script, count, ADDON as string]).catch(
        (e) => e,
      );
      expect(stdout).toMatch(new RegExp(`^seed \\d+: ${count} of ${count} ended as they should\n$`));
    },
    scaled(600_000),
  );

  it('ends from the main thread alone with the pool alive', () =>
    expectEachTime(`${WORK}; work(20); console.log('done');`, { code: 0, stdout: 'done\n', stderr: '' }));
});
