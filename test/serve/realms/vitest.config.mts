import { defineConfig } from 'vitest/config';

/** As projects run whose tests have a global object of their own, on the built package. */
export default defineConfig({
  test: {
    pool: 'vmThreads',
    maxWorkers: 1,
    include: ['*.spec.ts'],
    root: import.meta.dirname,
    server: { deps: { external: [/\/dist\//] } },
    testTimeout: 600_000,
  },
});
