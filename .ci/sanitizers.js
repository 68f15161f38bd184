'use strict';
/**
 * Tests the native code under gcc's sanitizers, on Linux: `npm run test:sanitizers`.
 *
 *   node .ci/sanitizers.js [reportFolder]
 *
 * address,undefined: the addon, under the conformance suite on the plainest and the widest instruction set of this
 * machine and the matmuls of OpenBLAS. thread: the tests of native/test, of the pool and what runs on it. Builds are
 * kept in build/address and build/thread. With a folder, each run leaves there what tally.js reads; one that can't be
 * built leaves no report, which counts as a failure.
 */
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const COMPILER = 'g++';
const CONFORMANCE = {
  files: ['native', 'instructionSets.slow', 'openblas', 'tiles'].map(
    (name) => `test/backend/${name}.test.ts`,
  ),
  // Kernels on several threads run once, on the widest instruction set; of OpenBLAS, all but the matmuls is the same. The model
  // of a matrix unit is slow, so that it gets small products alone.
  tests:
    'native kernels|built-in, (avx|neon)|built-in, baseline (?!threads)|OpenBLAS (sgemm|packed)|tiles: the model (sgemm multiplies at awkward|stored matrices bfloat16: multiply at awkward)',
};

const reportFolder = process.argv[2] && path.resolve(process.argv[2]);
const runs = { address: addressRun, thread: threadRun };
const failed = Object.keys(runs).filter((name) => !passes(name));
if (failed.length > 0) {
  for (const name of reportFolder ? failed : [])
    fs.writeFileSync(path.join(reportFolder, `${name}.failed`), '');
  console.error(`Failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}

function passes(name) {
  console.log(`\n== sanitizers: ${name}`);
  try {
    return runs[name](reportFolder && path.join(reportFolder, `${name}.json`));
  } catch (error) {
    console.error(error.message);
    return false;
  }
}

function addressRun(report) {
  const folder = build('address', 'address,undefined', 'sgemoe', [`-DSGEMOE_WITHOUT_ISA=${narrowerIsa()}`]);
  const reporters = report ? ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`] : [];
  const vitest = path.join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const [command, ...args] = [
    ...predictableAddresses(),
    process.execPath,
    vitest,
    'run',
    ...CONFORMANCE.files,
    '-t',
    CONFORMANCE.tests,
    ...reporters,
  ];
  const { status } = spawnSync(command, args, {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: {
      ...process.env,
      SGEMOE_ADDON: path.join(folder, 'sgemoe.node'),
      // Its runtime must be in the process before the addon is, and node itself frees next to nothing at its end.
      LD_PRELOAD: execFileSync(COMPILER, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim(),
      ASAN_OPTIONS: 'detect_leaks=0',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    },
  });
  return status === 0;
}

/** The one of x86-64's two wider instruction sets that this machine wouldn't choose. */
function narrowerIsa() {
  return /\bavx512f\b/.test(fs.readFileSync('/proc/cpuinfo', 'utf8')) ? 'avx2' : 'avx512';
}

function threadRun(report) {
  const folder = build('thread', 'thread', 'sgemoe_test');
  const [command, ...args] = [...predictableAddresses(), path.join(folder, 'native', 'test', 'sgemoe_test')];
  const { status, stdout } = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 1_800_000,
  });
  process.stdout.write(stdout ?? '');
  if (report) fs.writeFileSync(report, JSON.stringify(countTests(stdout ?? '')));
  return status === 0;
}

/** Under the wider address randomization of newer Linux, gcc 12's sanitizers find no place for their shadow memory. */
function predictableAddresses() {
  return spawnSync('setarch', ['-R', 'true']).status === 0 ? ['setarch', '-R'] : [];
}

/** Makes vitest's JSON report from the lines of the Test Anything Protocol. */
function countTests(output) {
  const passed = output.match(/^ok /gm)?.length ?? 0;
  const failures = output.match(/^not ok /gm)?.length ?? 0;
  return {
    numTotalTests: passed + failures,
    numPassedTests: passed,
    numFailedTests: failures,
    numPendingTests: 0,
    numTodoTests: 0,
    testResults: [],
  };
}

/** Builds a target with sanitizers; returns the build's folder. */
function build(name, sanitizers, target, options = []) {
  const folder = path.join(ROOT, 'build', name);
  const stdio = ['ignore', 'ignore', 'inherit'];
  execFileSync(
    'cmake',
    ['-S', ROOT, '-B', folder, '-DSGEMOE_TEST=ON', `-DSGEMOE_SANITIZE=${sanitizers}`, ...options],
    { stdio, env: { ...process.env, CXX: COMPILER } },
  );
  const jobs = String(os.availableParallelism());
  execFileSync('cmake', ['--build', folder, '--target', target, '--parallel', jobs], { stdio });
  return folder;
}
