'use strict';
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { backendInfo } = require('../..');
const { SEED } = require('./models');

const ROOT = path.resolve(__dirname, '..', '..');

/** @param {import('./measure').Runs} runs */
function metadataOf({ trials, warmup }) {
  const { backend, blas, instructionSet, threads } = backendInfo();
  return {
    language: 'typescript',
    language_version: require('typescript/package.json').version,
    os: `${os.type()} ${os.release()} ${os.arch()}`,
    cpu_model: os.cpus()[0]?.model ?? 'unknown',
    cpu_count: os.availableParallelism(),
    timestamp: new Date().toISOString(),
    seed: SEED,
    n_trials: trials,
    n_warmup: warmup,
    backend,
    blas: blas === null ? null : [blas.name, blas.version, blas.core].filter(Boolean).join(' '),
    instruction_set: instructionSet,
    threads,
    node: process.versions.node,
    v8: process.versions.v8,
    git_commit: git('rev-parse', 'HEAD'),
    /** Whether tracked files differed from that commit. */
    git_dirty: isDirty(),
    /** Mean number of processes that wanted a core in the minute before the run: other work disturbs the figures. */
    load_average: os.loadavg()[0],
  };
}

function isDirty() {
  const changes = git('status', '--porcelain', '--untracked-files=no');
  return changes === null ? null : changes !== '';
}

/** What git says about this folder; null if it isn't a clone, or lies inside another project's. */
function git(...args) {
  if (!fs.existsSync(path.join(ROOT, '.git'))) return null;
  try {
    return execFileSync('git', args, {
      cwd: ROOT,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return null;
  }
}

module.exports = { metadataOf };
