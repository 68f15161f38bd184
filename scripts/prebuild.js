'use strict';
/**
 * npm run prebuild [-- --target <name>]... [--out <folder>]
 *
 * Builds the addon for every platform on one machine: prebuilds/<platform>/sgemoe.node, which the loader takes if there is
 * no local build. The compiler is zig's clang (PyPI's ziglang, pinned in ziglang.txt, kept in build/zig), which brings
 * the headers and libraries of all targets; its cache takes what hasn't changed from the last run. The same sources
 * give the same bytes, in whatever folder they stand; their checksums are printed and written to
 * prebuilds/checksums.txt.
 */
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { writeNodeApiStubs } = require('./nodeApiStubs');
const { ROOT, COMMON, KERNEL, EXACT, findZig, sources, call, inParallel } = require('./zig');

const WORK = path.join('build', 'prebuild');

/** glibc 2.17 was released in 2012; macOS 11 is the oldest on which Node 20 and 22 run. */
const TARGETS = {
  'linux-x64': { triple: 'x86_64-linux-gnu.2.17' },
  'linux-arm64': { triple: 'aarch64-linux-gnu.2.17' },
  'linux-x64-musl': { triple: 'x86_64-linux-musl' },
  'linux-arm64-musl': { triple: 'aarch64-linux-musl' },
  'darwin-arm64': { triple: 'aarch64-macos.11.0' },
  'darwin-x64': { triple: 'x86_64-macos.11.0' },
  'win32-x64': { triple: 'x86_64-windows-gnu' },
  'win32-arm64': { triple: 'aarch64-windows-gnu' },
};
/** Targets that are built only when named. */
const UNSHIPPED = {
  'linux-riscv64': { triple: 'riscv64-linux-gnu.2.27' },
};
const EVERY_TARGET = { ...TARGETS, ...UNSHIPPED };

// evex512: zig's baseline switches the wide registers off.
const AVX512 = [
  ...['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mfma', '-mf16c', '-mprefer-vector-width=512'],
  '-mevex512',
];
const AVX2 = ['-mavx2', '-mfma', '-mf16c'];
const NEONDOT = ['-mcpu=generic+dotprod', '-DSGEMOE_SDOT'];
const INSTRUCTION_SETS = {
  x64: {
    baseline: [],
    avx2: AVX2,
    avxvnni: [...AVX2, '-DSGEMOE_AVXVNNI'],
    avx512: AVX512,
    avx512vnni: [...AVX512, '-mavx512vnni'],
  },
  arm64: { neon: [], neondot: NEONDOT, neoni8mm: [...NEONDOT, '-DSGEMOE_I8MM'] },
  riscv64: { baseline: [] },
};
/** Flags for what every processor of a platform has, which its compiler doesn't take. */
const IMPLIED = { 'darwin-arm64': ['-mcpu=generic+dotprod'] };
/** Instruction sets that make only some sources faster. */
const ROUNDED = /\/stored_rounded\w*\.cc$/;
const ONLY = { avxvnni: ROUNDED, avx512vnni: ROUNDED, neondot: ROUNDED, neoni8mm: ROUNDED };

const ADDON = [
  '-DNAPI_VERSION=8',
  '-DNAPI_CPP_EXCEPTIONS',
  '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
  '-DNODE_GYP_MODULE_NAME=sgemoe',
  '-isystem',
  'node_modules/node-addon-api',
  '-isystem',
  'node_modules/node-api-headers/include',
];

main(process.argv.slice(2)).catch((error) => {
  const signal = error.signal ? `, ended by ${error.signal}` : '';
  console.error(`prebuild: ${error.stderr || error.message}${signal}`);
  process.exitCode = 1;
});

async function main(argv) {
  const { targets, out } = parse(argv);
  process.chdir(ROOT);
  const zig = findZig();
  const lines = [];
  for (const target of targets) {
    const started = performance.now();
    const file = path.join(out, target, 'sgemoe.node');
    await build(zig, target, file);
    const bytes = fs.readFileSync(file);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    const checksum = createHash('sha256').update(bytes).digest('hex');
    lines.push(`${checksum}  ${target}/sgemoe.node`);
    console.log(`${lines.at(-1)}  ${bytes.length} bytes, ${seconds} s`);
  }
  if (targets.length === Object.keys(TARGETS).length) {
    fs.writeFileSync(path.join(out, 'checksums.txt'), `${lines.join('\n')}\n`);
  }
}

function parse(argv) {
  const targets = [];
  let out = 'prebuilds';
  for (let i = 0; i < argv.length; i += 2) {
    const [flag, value] = argv.slice(i, i + 2);
    if (flag === '--target' && Object.hasOwn(EVERY_TARGET, value)) targets.push(value);
    else if (flag === '--out' && value) out = path.resolve(value);
    else
      throw new Error(
        `usage: --target ${Object.keys(EVERY_TARGET).join('|')}, --out <folder>; got ${flag} ${value}`,
      );
  }
  return { targets: targets.length > 0 ? targets : Object.keys(TARGETS), out };
}

/** Builds in a new folder, so that two builds at the same time don't collide, and nobody finds half a file. */
async function build(zig, target, file) {
  fs.mkdirSync(WORK, { recursive: true });
  const folder = fs.mkdtempSync(path.join(WORK, `${target}-`));
  try {
    const compiler = [zig, 'c++', '-target', EVERY_TARGET[target].triple];
    const jobs = [...kernelJobs(target), ...addonJobs(target, folder)].map((job) => ({
      ...job,
      object: path.join(folder, `${job.name}.o`),
    }));
    await inParallel(jobs, ({ source, flags, object }) =>
      call(compiler, [...flags, '-c', source, '-o', object]),
    );
    const linked = path.join(folder, path.basename(file));
    const objects = jobs.map(({ object }) => object);
    await call(compiler, ['-shared', '-o', linked, ...objects, ...linkFlags(target)]);
    replace(linked, file);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** `out` may lie on another disk. */
function replace(from, to) {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  const beside = `${to}.${process.pid}`;
  fs.copyFileSync(from, beside);
  fs.renameSync(beside, to);
}

/** Every kernel once per instruction set. */
function kernelJobs(target) {
  const sets = Object.entries(INSTRUCTION_SETS[target.split('-')[1]]);
  return sets.flatMap(([set, flags]) => {
    const own = flags.filter((flag) => !IMPLIED[target]?.includes(flag));
    return kernelSources(set).map((source) => ({
      name: `${set}_${path.basename(source, '.cc')}`,
      source,
      flags: [...commonFlags(target), ...KERNEL, ...own, `-DSGEMOE_ISA=${set}`],
    }));
  });
}

function kernelSources(set) {
  return sources('native/kernels').filter((source) => !(set in ONLY) || ONLY[set].test(source));
}

function addonJobs(target, folder) {
  const darwin = target.startsWith('darwin');
  const own = [...sources('native'), ...sources('native/addon'), ...sources('native/comm')].filter(
    (source) => darwin || path.basename(source) !== 'blas_accelerate.cc',
  );
  const jobs = own.map((source) => ({
    name: source.replaceAll('/', '_'),
    source,
    flags: [
      ...commonFlags(target),
      ...ADDON,
      ...(EXACT.includes(path.basename(source)) ? ['-ffp-contract=off'] : []),
      // What waits for networks is compiled for size.
      ...(source.startsWith('native/comm/') ? ['-Os'] : []),
      ...(darwin ? ['-DSGEMOE_ACCELERATE', '-DSGEMOE_ACCELERATE_AT_RUN_TIME'] : []),
    ],
  }));
  if (!target.startsWith('win32')) return jobs;
  const stubs = writeNodeApiStubs(folder, target.split('-')[1]);
  return [...jobs, { name: 'node_api_stubs', source: stubs, flags: commonFlags(target) }];
}

function commonFlags(target) {
  return [...COMMON, ...(target.startsWith('win32') ? [] : ['-fPIC'])];
}

function linkFlags(target) {
  if (target.startsWith('darwin')) {
    // -s removes the debug map of zig's C++ library, which has the builder's paths. The linker signs the stripped file ad
    // hoc, as arm64 demands. Without an install name, the file would contain the path that it is written to.
    return [
      '-s',
      '-Wl,-undefined,dynamic_lookup',
      '-Wl,-dead_strip',
      '-Wl,-x',
      '-Wl,-install_name,@rpath/sgemoe.node',
    ];
  }
  if (target.startsWith('win32')) return ['-s', '-Wl,--gc-sections'];
  return ['-Wl,-z,nodelete', '-Wl,--gc-sections', '-s', '-lpthread', '-ldl'];
}
