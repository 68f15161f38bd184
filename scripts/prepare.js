'use strict';
/**
 * The clone's `prepare`, which npm runs at `npm ci`: it builds the addon and dist/. If the tools of one are
 * missing (a compiler, or the TypeScript that `npm ci --omit=dev` leaves out), it is skipped and the reason printed. Errors
 * of the TypeScript compiler are errors.
 */
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');

// npm packs in the order prepack, prepare: a dist/ made anew here would lose what prepack (pack.js) has put into it.
if (process.env.npm_command === 'pack' || process.env.npm_command === 'publish') process.exit(0);
run('build-native.js', '--if-possible');
if (fs.existsSync(path.join(ROOT, 'node_modules', 'typescript'))) {
  process.exitCode = run('build-ts.js');
} else {
  console.error('sgemoe: dist/ was not built, since TypeScript is not installed (a development dependency).');
}

function run(script, ...args) {
  const { status } = spawnSync(process.execPath, [path.join(__dirname, script), ...args], {
    stdio: 'inherit',
  });
  return status ?? 1;
}
