'use strict';
/**
 * npm run build:wasm [-- --out <folder>]
 *
 * Builds the kernels as WebAssembly, which computes where no addon loads: prebuilds/wasm/kernels.wasm, and
 * kernels-relaxed.wasm with the fused multiply-add of relaxed SIMD. The sources are the addon's; native/wasm/ replaces
 * Node-API, the pool and the heap. The same sources give the same bytes.
 */
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { gzipSync } = require('node:zlib');
const { ROOT, COMMON, KERNEL, EXACT, findZig, sources, call, inParallel } = require('./zig');

const WORK = path.join('build', 'prebuild', 'wasm');
const MAX_GZIP_BYTES = 400 * 1024;

/** A shared memory needs atomics and bulk memory. */
const TARGET = ['-target', 'wasm32-wasi'];
const MODULES = {
  'kernels.wasm': '-mcpu=generic+simd128+atomics+bulk_memory',
  'kernels-relaxed.wasm': '-mcpu=generic+simd128+relaxed_simd+atomics+bulk_memory',
};
const SOURCE = [
  ...COMMON,
  '-fno-exceptions',
  '-fno-rtti',
  '-fno-threadsafe-statics',
  '-Wno-unused-private-field',
  '-DSGEMOE_ISA=simd128',
  '-Inative/wasm',
];
/** 65,535 pages of 64 KiB. Addresses reach one page further, but the linker doesn't. */
const LINK = [
  '-mexec-model=reactor',
  '-Wl,--shared-memory',
  '-Wl,--import-memory',
  '-Wl,--max-memory=4294901760',
  '-Wl,--export=__wasm_init_tls',
  '-Wl,--export=__tls_size',
  '-Wl,--export=__stack_pointer',
  // JavaScript gives each thread its stack; the first size of the memory is that of src/backend/wasm/instance.ts.
  '-Wl,-z,stack-size=65536',
  '-Wl,--initial-memory=1048576',
  '-Wl,--gc-sections',
  '-Wl,-s',
];

/** Sources of the addon in native/ and native/addon/ that need Node, a system or a library. */
const SHARED = [
  'gemm.cc',
  'gemm_large.cc',
  'gemm_packed.cc',
  'quantize.cc',
  'random.cc',
  'sampling.cc',
  'scratch_parts.cc',
  'stored.cc',
].map((name) => `native/${name}`);

/** Objects of Node-API: WebAssembly makes its own (native/wasm/module.cc). */
const OWN = ['native/addon/handles.cc'];

main(process.argv.slice(2)).catch((error) => {
  console.error(`build:wasm: ${error.stderr || error.message}`);
  process.exitCode = 1;
});

async function main(argv) {
  const [flag, value] = argv;
  if (argv.length > 0 && !(argv.length === 2 && flag === '--out')) throw new Error('usage: --out <folder>');
  const out = path.resolve(value ?? path.join(ROOT, 'prebuilds'));
  process.chdir(ROOT);
  fs.mkdirSync(path.join(out, 'wasm'), { recursive: true });
  const files = Object.keys(MODULES).map((name) => path.join(out, 'wasm', name));
  for (const file of files) await build(file, MODULES[path.basename(file)]);
  report(files);
}

async function build(file, processor) {
  const compiler = [findZig(), 'c++', ...TARGET, processor];
  const work = path.join(WORK, path.basename(file));
  fs.mkdirSync(work, { recursive: true });
  const jobs = [
    ...sources('native/kernels').map((source) => ({ source, flags: [...SOURCE, ...KERNEL] })),
    ...SHARED.map((source) => ({ source, flags: [...SOURCE, ...exact(source)] })),
    ...[...sources('native/addon').filter((source) => !OWN.includes(source)), ...sources('native/wasm')].map(
      (source) => ({ source, flags: SOURCE }),
    ),
  ].map((job) => ({ ...job, object: path.join(work, `${job.source.replaceAll('/', '_')}.o`) }));
  await inParallel(jobs, ({ source, flags, object }) =>
    call(compiler, [...flags, '-c', source, '-o', object]),
  );
  await call(compiler, [...LINK, '-o', file, ...jobs.map(({ object }) => object)]);
}

/** As in the addon. */
function exact(source) {
  return EXACT.includes(path.basename(source)) ? ['-ffp-contract=off'] : [];
}

function report(files) {
  let together = 0;
  for (const file of files) {
    const bytes = fs.readFileSync(file);
    const packed = gzipSync(bytes, { level: 9 }).length;
    together += packed;
    const checksum = createHash('sha256').update(bytes).digest('hex');
    console.log(`${checksum}  wasm/${path.basename(file)}  ${bytes.length} bytes, ${packed} gzipped`);
  }
  if (together > MAX_GZIP_BYTES)
    throw new Error(`they take ${together} bytes gzipped, at most ${MAX_GZIP_BYTES}`);
}
