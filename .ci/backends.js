'use strict';
/**
 * The README's test command on every backend of this platform: `npm run test:all`. What doesn't depend on the backend runs with the
 * first (vitest.config).
 *
 *   node .ci/backends.js [reportFolder] [slow | full]
 *
 * With a folder, each run leaves the test runner's JSON report there. `slow` and `full` run the other suites instead
 * (`npm run test:slow`, `npm run test:full`), once, on the backend that is found.
 */
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [reportFolder, suite] = process.argv.slice(2);
const runs = suite ? [{ name: suite, script: `test:${suite}` }] : backends().map(backendRun);
const failed = runs.filter((run) => !passes(run)).map((run) => run.name);

if (failed.length > 0) {
  for (const name of reportFolder ? failed : [])
    fs.writeFileSync(path.join(reportFolder, `${name}.failed`), '');
  console.error(`Failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}

function backends() {
  const blas = { darwin: ['accelerate'], linux: ['openblas'] }[process.platform] ?? [];
  return [...blas, 'builtin', 'wasm', 'reference'];
}

/** The first run has the tests that don't depend on the backend, too. */
function backendRun(name, i) {
  return { name, script: 'test', env: { SGEMOE_BACKEND: name, ...(i > 0 && { SGEMOE_TEST_AGAIN: '1' }) } };
}

function passes({ name, script, env }) {
  console.log(`\n== ${script}: ${name}`);
  const report = reportFolder && path.resolve(reportFolder, `${name}.json`);
  const reporters = report
    ? ['--', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
    : [];
  const { status } = spawnSync('npm', ['run', script, ...reporters], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
    shell: process.platform === 'win32',
  });
  return status === 0;
}
