import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ROOT, runBench, temporaryFolder } from './command';

const { BOUNDARY_CASES } = require(join(ROOT, 'bench', 'lib', 'boundaryCases.js')) as {
  BOUNDARY_CASES: Record<string, unknown>;
};
const KERNELS = Object.keys(BOUNDARY_CASES);

/** A program that prints what kernel_bench prints, for a small size of every kernel. */
function writeStub(file: string): void {
  const lines = KERNELS.map((kernel) =>
    JSON.stringify({ kernel, rows: 3, cols: 8, loopNs: 1e9, kernelNs: 5e8 }),
  );
  const text = JSON.stringify(`${lines.join('\n')}\n`);
  writeFileSync(file, `#!${process.execPath}\nprocess.stdout.write(${text});\n`);
  chmodSync(file, 0o755);
}

describe.skipIf(process.platform === 'win32')('bench/boundary.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);

  test('puts the call of each kernel beside what the native program measured', async () => {
    const stub = join(folder.path, 'kernel_bench');
    writeStub(stub);
    const { code, stdout, stderr } = await runBench('boundary.js', [stub, '--rounds', '1']);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    for (const kernel of KERNELS) {
      expect(stdout).toMatch(
        new RegExp(`\\| ${kernel} 3x8 \\| 1000000000 \\| 500000000 \\| \\d+ \\| 0\\.50 \\| 0 % \\|`),
      );
    }
  });

  test('a program that is not there ends with a sentence and exit code 2', async () => {
    const { code, stderr } = await runBench('boundary.js', ['no-such-program']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/no-such-program can't be run/);
  });
});
