/** `npm run demo -- --quick` as users run it, in a folder of its own: it reaches its goal and leaves a finished run. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { launchBrowser, skippedWithoutBrowser } from '../helpers/browser';
import { readMetrics, sgemoe, temporaryFolder } from './run';

const ROOT = join(__dirname, '..', '..');
const STEPS = 60;

let folder: string;
let run: string;
let output: string;
beforeAll(() => {
  folder = temporaryFolder();
  run = join(folder, 'runs', 'demo-quick');
  mkdirSync(join(folder, 'scripts'));
  copyFileSync(join(ROOT, 'scripts', 'demo.js'), join(folder, 'scripts', 'demo.js'));
  for (const name of ['dist', 'docs', 'src']) symlinkSync(join(ROOT, name), join(folder, name), 'junction');
  output = execFileSync(process.execPath, ['scripts/demo.js', '--quick'], { cwd: folder, encoding: 'utf8' });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the demo', () => {
  it('learns, and computes the same after loading', () => {
    expect(output).toContain('PASSED: the loss fell.');
    expect(output).toContain('the same logits, bit by bit');
  });

  it('leaves a run that is finished', async () => {
    const { result, error } = JSON.parse(readFileSync(join(run, 'run.json'), 'utf8'));
    expect(error).toBeUndefined();
    expect(result).toMatchObject({ steps: STEPS, interrupted: false });
    expect(readMetrics(run)).toHaveLength(STEPS);
    expect(await sgemoe(['report', run])).toMatchObject({ code: 0, stderr: '' });
  });

  it.skipIf(skippedWithoutBrowser(__filename))('is reported as finished', async () => {
    expect((await sgemoe(['report', run])).code).toBe(0);
    const browser = await launchBrowser();
    try {
      const page = await browser.newPage();
      await page.goto(pathToFileURL(join(run, 'report.html')).href);
      const row = await page.textContent('.results tbody tr');
      expect(row).toMatch(/demo-quick.*finished.*60/);
      expect(row).not.toContain('not finished');
    } finally {
      await browser.close();
    }
  });
});
