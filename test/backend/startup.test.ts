/** Which files of the built package a program reads, before and after it uses something. */
import { join, relative } from 'node:path';
import { expect, it } from 'vitest';
import { ADDON, ROOT, runNode } from './child';

/** The files of dist/ that are loaded after `statement`, where `sgemoe` is the package. */
async function filesReadBy(statement: string): Promise<string[]> {
  const script = `
    const sgemoe = require(process.argv[1]);
    ${statement};
    console.log(JSON.stringify(Object.keys(require.cache)));
  `;
  const env: Record<string, string> =
    ADDON === null ? {} : { SGEMOE_ADDON: ADDON, SGEMOE_BACKEND: 'builtin' };
  const ended = await runNode(script, env, [join(ROOT, 'dist', 'index.js')]);
  expect(ended).toMatchObject({ code: 0, signal: null });
  const files = JSON.parse(ended.stdout) as string[];
  return files.map((file) => relative(join(ROOT, 'dist'), file).replaceAll('\\', '/'));
}

it('requiring the package reads its entry alone', async () => {
  expect(await filesReadBy('')).toEqual(['index.js']);
});

it.skipIf(ADDON === null)('a forward reads neither text, checkpoints nor the reference kernels', async () => {
  const files = await filesReadBy('sgemoe.MoETransformer.tiny().forwardIds([1, 2], 1, 2)');
  expect(files).toContain('model/model.js');
  expect(
    files.filter((file) => /^(text|checkpoint|hf|training|sampling|serve|backend\/reference)/.test(file)),
  ).toEqual([]);
});

it('every name of the package is there when it is asked for', async () => {
  const files = await filesReadBy(`
    for (const name of Object.keys(sgemoe)) if (sgemoe[name] === undefined) throw new Error(name)`);
  expect(files.length).toBeGreaterThan(20);
});
