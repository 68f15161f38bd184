/** The recipes in docs/recipes: `sgemoe train` takes their configurations, and their pages tell the sizes that come out. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sgemoe } from '../cli/run';
import { ROOT, readPage } from './markdown';

const RECIPES = 'docs/recipes';
const names = readdirSync(join(ROOT, RECIPES), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

/** Different characters in tiny Shakespeare. */
const CHARACTERS = 65;

let folder: string;
let text: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-recipes-'));
  text = join(folder, 'text.txt');
  const characters = Array.from({ length: CHARACTERS - 1 }, (_, i) => String.fromCharCode(0x21 + i)).join('');
  writeFileSync(text, `${characters}\n`.repeat(5));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SHORTER = [
  '--steps',
  '1',
  '--warmup',
  '0',
  '--batch-size',
  '1',
  '--seq-len',
  '8',
  '--sample-tokens',
  '0',
];

describe('the recipes', () => {
  it.each(names)('%s trains, with as many parameters as its page says', async (name) => {
    const config = join(ROOT, RECIPES, name, 'config.json');
    const argv = ['train', '--config', config, '--data', text, '--out', join(folder, name), ...SHORTER];
    const { code, stdout, stderr } = await sgemoe(argv);
    expect(code, stderr).toBe(0);
    const counts = /Model: {3}([\d,]+) parameters, ([\d,]+) used by a token/.exec(stdout)!;
    const page = readPage(`${RECIPES}/${name}/README.md`).text;
    expect(counts.slice(1).filter((count) => !page.includes(count))).toEqual([]);
  });

  it('are there', () => expect(names).toEqual(['nanogpt-cpu', 'shakespeare', 'upcycling']));
});
