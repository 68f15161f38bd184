/** The built command as a process: signals, pipes, exit codes. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { getKernels } from '../../src/backend';
import { MoETransformer } from '../../src/model/model';
import { readMetrics, TINY, temporaryFolder, writeText } from './run';

const MAIN = resolve(__dirname, '..', '..', 'dist', 'cli', 'main.js');

let folder: string;
let text: string;
beforeAll(() => {
  folder = temporaryFolder();
  text = writeText(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...argv: string[]): { child: ChildProcess; stdout: () => string; stderr: () => string } {
  const child = spawn(process.execPath, [MAIN, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout!.on('data', (data) => {
    stdout += data;
  });
  child.stderr!.on('data', (data) => {
    stderr += data;
  });
  return { child, stdout: () => stdout, stderr: () => stderr };
}

async function firstStep(stdout: () => string, child: ChildProcess): Promise<void> {
  while (!stdout().includes('step ')) {
    if (child.exitCode !== null) throw new Error('ended before its first step');
    await sleep(20);
  }
}

const endless = (out: string) => ['train', '--data', text, '--out', out, ...TINY, '--steps', '1000000'];

describe('the sgemoe process', () => {
  it('gives 2 and a sentence for a wrong option, 0 and help on demand', async () => {
    const wrong = start('info', '--no-such');
    expect(await once(wrong.child, 'close')).toEqual([2, null]);
    expect(wrong.stderr()).toContain("unknown option '--no-such'");
    const help = start('--help');
    expect(await once(help.child, 'close')).toEqual([0, null]);
    expect(help.stdout()).toContain('Usage: sgemoe');
  });

  it('info tells whether products by block types round the activations', () => {
    const run = (exact: string) => {
      const env = { ...process.env, SGEMOE_EXACT: exact };
      return execFileSync(process.execPath, [MAIN, 'info'], { env, encoding: 'utf8' });
    };
    const rounds = !getKernels().info.exactProducts;
    expect(run('0')).toMatch(
      rounds ? /block types +multiplied by activations in 8 bits/ : /multiplied as they are/,
    );
    expect(run('1')).toMatch(/block types +multiplied as they are/);
  });

  it('info tells of the matrix unit and what it multiplies', () => {
    if (getKernels().info.addonPath === null) return; // only the addon has one
    const run = (env: NodeJS.ProcessEnv) =>
      execFileSync(process.execPath, [MAIN, 'info'], { env: { ...process.env, ...env }, encoding: 'utf8' });
    expect(run({ SGEMOE_MATMUL: 'fma' })).toMatch(/matrix unit +none in use/);
    const model = run({ SGEMOE_TILES: 'model', SGEMOE_MATMUL: 'split' });
    const blocks = getKernels().info.exactProducts ? '' : ' and block types';
    expect(model).toMatch(
      new RegExp(`matrix unit +a scalar model of AMX.*bfloat16 matrices${blocks}, large float32 products`),
    );
    expect(run({ SGEMOE_TILES: 'model' })).toMatch(new RegExp(`matrix unit +.*bfloat16 matrices${blocks}\n`));
    expect(run({ SGEMOE_TILES: 'model', SGEMOE_EXACT: '1' })).toMatch(/matrix unit +.*bfloat16 matrices\n/);
    expect(run({ SGEMOE_TILES: 'pairsModel' })).toMatch(
      /matrix unit +none, but .*VDPBF16PS.*: mixed precision\n/,
    );
  });

  it.skipIf(process.platform === 'win32')('saves at the first Ctrl-C and gives 130', async () => {
    const out = join(folder, 'once');
    const { child, stdout } = start(...endless(out));
    await firstStep(stdout, child);
    child.kill('SIGINT');
    // npm does this: it passes on a Ctrl-C that its child has already seen.
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([130, null]);
    expect(stdout()).toMatch(/Stopped at step \d+ of 1000000/);
    expect(readMetrics(out).length).toBeGreaterThan(0);
    await MoETransformer.load(out);
  });

  it.skipIf(process.platform === 'win32')('ends quietly when the reader of its text goes away', async () => {
    const out = join(folder, 'piped');
    const { child, stdout, stderr } = start(...endless(out));
    await firstStep(stdout, child);
    child.stdout!.destroy();
    await once(child, 'exit');
    expect(child.exitCode).toBe(130);
    expect(stderr()).not.toContain('EPIPE');
    await MoETransformer.load(out);
  });
});
