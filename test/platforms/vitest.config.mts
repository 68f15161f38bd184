/** Runs tests in another Node, which SGEMOE_TEST_NODE names (under an emulator, say); vitest itself stays in this one. */
import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

// What a fork of this process runs.
process.execPath = process.env.SGEMOE_TEST_NODE as string;

export default defineConfig({
  root: resolve(import.meta.dirname, '..', '..'),
  test: {
    pool: 'forks',
    maxWorkers: 2,
    include: ['test/**/*.test.ts'],
    testTimeout: 1_800_000,
    hookTimeout: 1_800_000,
    teardownTimeout: 60_000,
  },
});
