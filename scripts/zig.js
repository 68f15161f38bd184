'use strict';
/**
 * The compiler of builds for other machines (prebuild.js, build-wasm.js): zig's clang, from PyPI's ziglang, pinned in
 * ziglang.txt, kept in build/zig. It brings the headers and libraries of all targets.
 */
const { execFile, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const { pipInstallInto } = require('./pip');

const ROOT = path.resolve(__dirname, '..');
const ZIG_FOLDER = path.join(ROOT, 'build', 'zig');
const REQUIREMENTS = path.join(__dirname, 'ziglang.txt');

const run = promisify(execFile);

/** Flags of all sources, and of the kernels. */
const COMMON = [
  '-std=c++17',
  '-O3',
  '-DNDEBUG',
  '-g0',
  '-Wall',
  '-Wextra',
  '-fno-sanitize=undefined',
  '-fvisibility=hidden',
  '-fvisibility-inlines-hidden',
  '-ffunction-sections',
  '-fdata-sections',
];
const KERNEL = ['-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast'];
/** Sources that promise the same bits everywhere: nothing in them is contracted. */
const EXACT = ['random.cc', 'quantize.cc'];

/** The compiler, installed on first use. */
function findZig() {
  const zig = path.join(ZIG_FOLDER, 'ziglang', process.platform === 'win32' ? 'zig.exe' : 'zig');
  if (!fs.existsSync(zig)) {
    const args = pipInstallInto(ZIG_FOLDER, '--require-hashes', '-r', REQUIREMENTS);
    execFileSync('python3', args, { stdio: 'inherit' });
  }
  return zig;
}

/** The C++ sources of a folder, by name. */
function sources(folder) {
  return fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.cc'))
    .sort()
    .map((name) => `${folder}/${name}`);
}

/** What is built doesn't depend on the time: the linker would write it into Windows' files. */
const ENVIRONMENT = { ...process.env, SOURCE_DATE_EPOCH: '0' };

async function call([command, ...first], args) {
  const { stderr } = await run(command, [...first, ...args], { maxBuffer: 1 << 26, env: ENVIRONMENT });
  if (stderr.trim()) process.stderr.write(stderr);
}

async function inParallel(jobs, work) {
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) await work(job);
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, worker));
}

module.exports = { ROOT, COMMON, KERNEL, EXACT, findZig, sources, call, inParallel };
