import { configDefaults, defineConfig } from 'vitest/config';

/** What builds something or runs a benchmark: `npm run test:slow`. */
const SLOW = ['test/package/**/*.test.ts', 'test/bench/**/*.test.ts', 'test/**/*.slow.test.ts'];

/** What takes many minutes, and what does more by SGEMOE_TEST_SCALE: `npm run test:full`, part of .ci/full. */
const FULL = [
  'test/**/*.full.test.ts',
  'test/backend/lifecycle.test.ts',
  'test/cli/kill.test.ts',
  'test/serve/stress.test.ts',
  'test/training/distributed/kill.slow.test.ts',
];

/**
 * What computes with backends of its own choice, or checks nothing that depends on the backend: .ci/backends.js runs it with the first backend alone, by
 * SGEMOE_TEST_AGAIN. The rest runs on every backend.
 */
const ONCE = [
  'test/house.test.ts',
  'test/backend/**/*.test.ts',
  'test/base/**/*.test.ts',
  'test/checkpoint/**/*.test.ts',
  'test/cli/{chatServer,disk,exitCodes,kill,liveLine,process,progress,prompt,pull,report,reportPage}.test.ts',
  'test/cli/{runOptions,tokenizer,trainingOptions,usage}.test.ts',
  'test/config/**/*.test.ts',
  'test/deploy/**/*.test.ts',
  'test/docs/**/*.test.ts',
  'test/hf/hub/**/*.test.ts',
  'test/sampling/constraints/**/*.test.ts',
  // What is said over HTTP; what an engine computes is in the others.
  'test/serve/{ai,body,endTokens,ends,environments,fields,generationConfig,http,log,messages,models,openai,openapi}.test.ts',
  'test/serve/{page,pageChat,plugin,prompt,rateLimits,realms,requestId,responses,texts,toolCalls,turns}.test.ts',
  'test/serve/realms/**/*.test.ts',
  'test/training/distributed/{saving,experts}.test.ts',
  'test/text/**/!(trainCharacters).test.ts',
  'test/web/**/*.test.ts',
];

export default defineConfig({
  test: {
    globalSetup: ['test/globalSetup.ts'],
    // The addon owns process-wide state (thread pool, BLAS library): one process per file.
    pool: 'forks',
    maxWorkers: 2,
    // Limits against a hang, not on speed: a machine with ten times the load passes too.
    testTimeout: 600_000,
    hookTimeout: 1_800_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'fast',
          include: ['test/**/*.test.ts'],
          exclude: [
            ...configDefaults.exclude,
            ...SLOW,
            'test/**/*.full.test.ts',
            ...(process.env.SGEMOE_TEST_AGAIN ? ONCE : []),
          ],
        },
      },
      {
        extends: true,
        test: { name: 'slow', include: SLOW, exclude: [...configDefaults.exclude, 'test/**/*.full.test.ts'] },
      },
      { extends: true, test: { name: 'full', include: FULL } },
    ],
  },
});
