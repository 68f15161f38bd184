import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ADDON, ROOT, runNode } from './child';

const GLIBC =
  process.platform === 'linux' &&
  (process.report.getReport() as { header: { glibcVersionRuntime?: string } }).header.glibcVersionRuntime !==
    undefined;

/** Page faults for each of 200 new arrays of 256 KB that are written and dropped. */
const SCRIPT = `
  const { setFlagsFromString } = require('node:v8');
  setFlagsFromString('--expose-gc');
  const gc = require('node:vm').runInNewContext('gc');
  require(process.argv[1]).loadNativeKernels();
  const round = (n) => {
    for (let i = 0; i < n; i++) {
      new Float32Array(64000).fill(1);
      if (i % 20 === 0) gc();
    }
  };
  round(100);
  const before = process.resourceUsage().minorPageFault;
  round(200);
  console.log((process.resourceUsage().minorPageFault - before) / 200);
`;

describe.skipIf(ADDON === null || !GLIBC)('memory that a program gives up', () => {
  const faults = async (env: Record<string, string>) => {
    const { stdout, stderr } = await runNode(SCRIPT, { SGEMOE_ADDON: ADDON!, ...env }, [
      join(ROOT, 'dist/backend/native.js'),
    ]);
    expect(stderr).toBe('');
    return Number(stdout);
  };

  test('is used again for the next result, which has 63 pages, without a fault for each', async () => {
    expect(await faults({})).toBeLessThan(16);
  });

  test('goes back to the system where the environment says so', async () => {
    expect(await faults({ MALLOC_MMAP_THRESHOLD_: '65536' })).toBeGreaterThan(48);
  });
});
