/** A training process is killed at random moments, again and again, and each time goes on as if nothing had happened. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Lcg64 } from '../../src';
import { scaled } from '../helpers/scale';
import { readMetrics, temporaryFolder, writeText } from './run';

const MAIN = resolve(__dirname, '..', '..', 'dist', 'cli', 'main.js');
const KILLS = scaled(50);
const STEPS = String(scaled(3000));

let folder: string;
let text: string;
beforeAll(() => {
  folder = temporaryFolder();
  text = writeText(folder, 40);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SIZES = [
  '--hidden-dim 8 --layers 1 --heads 1 --kv-heads 1 --experts 2 --ffn-dim 8 --seq-len 8 --batch-size 1',
  `--steps ${STEPS} --eval-interval 10 --eval-batches 1 --sample-tokens 0 --threads 1`,
].flatMap((options) => options.split(' '));

function start(...argv: string[]) {
  const child = spawn(process.execPath, [MAIN, 'train', ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  return { child, output: () => output };
}

type Output = () => string;
const fromStart = () => true;
const fromSteps = (output: Output) => output().includes('\nstep ');

/** Kills a process some time after its first output. */
async function killLater(
  argv: string[],
  milliseconds: number,
  seen: (output: Output) => boolean,
): Promise<void> {
  const { child, output } = start(...argv);
  while (!seen(output) && child.exitCode === null) await sleep(1);
  expect(child.exitCode, output()).toBe(null);
  await sleep(milliseconds);
  child.kill('SIGKILL');
  await once(child, 'close');
}

function withoutTimes(dir: string): object[] {
  return readMetrics(dir).map(({ tokensPerSec, ...line }) => line);
}

it(`survives ${KILLS} kills, each resumed, and ends with the files of a run that was left alone`, async () => {
  const out = join(folder, 'killed');
  // Saving takes most of the time of such a run, so most kills fall into a save.
  const often = ['--save-interval', '2', '--keep', '2'];
  const random = new Lcg64(11);
  await killLater(['--data', text, '--out', out, ...SIZES, ...often], 0, () =>
    existsSync(join(out, 'state.json')),
  );
  for (let kills = 1; kills < KILLS; kills++) {
    const argv = ['--out', out, '--resume', ...often];
    // Every third kill comes while the process starts, loads and makes its first steps.
    if (kills % 3 === 0) await killLater(argv, random.nextInt(400), fromStart);
    else await killLater(argv, random.nextInt(120), fromSteps);
  }
  const last = start('--out', out, '--resume', '--save-interval', STEPS);
  expect(await once(last.child, 'close'), last.output()).toEqual([0, null]);

  const alone = join(folder, 'alone');
  const whole = start('--data', text, '--out', alone, ...SIZES, '--save-interval', STEPS);
  expect(await once(whole.child, 'close'), whole.output()).toEqual([0, null]);
  for (const name of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
    expect(readFileSync(join(out, name)).equals(readFileSync(join(alone, name))), name).toBe(true);
  }
  expect(withoutTimes(out)).toEqual(withoutTimes(alone));
  const steps = readMetrics(out).map(({ step }) => step);
  expect(steps).toEqual(Array.from({ length: Number(STEPS) }, (_, i) => i + 1));
});
