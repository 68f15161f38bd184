/** Which backend is chosen, which warning says that it isn't the fast one, and which error says that a demand can't be met. */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mayGainFromLibrary } from '../../src/backend';
import type { BackendInfo } from '../../src/backend/kernels';
import { platformName } from '../../src/backend/platform';
import { createReferenceKernels } from '../../src/backend/reference';
import { bestInstructionSet } from '../../src/backend/wasm/api';
import { ADDON, installedBoundary, runNode, WASM, WITHOUT_WASM } from './child';

const PREBUILT = join('prebuilds', platformName());

interface Loaded {
  info?: BackendInfo;
  error?: { name: string; code?: string; message: string; cause?: string };
  warnings: { name: string; code: string; message: string }[];
}

const SCRIPT = `
  const warnings = [];
  process.on('warning', ({ name, code, message }) => warnings.push({ name, code, message }));
  const outcome = { warnings };
  try {
    const backend = require(process.argv[1] + '/dist/backend/index.js');
    const repeated = process.argv[2] ? process.argv[2].split(',') : [];
    for (const name of repeated) backend.createKernels(name);
    outcome.info = backend.backendInfo();
    const c = new Float32Array(1);
    backend.getKernels().sgemm(false, false, 1, 1, 2, 1, Float32Array.of(2, 3), 0, 2, Float32Array.of(5, 7), 0, 1, 0, c, 0, 1);
    if (c[0] !== 31) throw new Error('2*5 + 3*7 = ' + c[0]);
  } catch ({ name, code, message, cause }) {
    outcome.error = { name, code, message, cause: cause && cause.message };
  }
  setImmediate(() => console.log(JSON.stringify(outcome)));
`;

async function load(
  root: string,
  env: Record<string, string> = {},
  repeated: string[] = [],
): Promise<Loaded> {
  const ended = await runNode(SCRIPT, env, [root, repeated.join(',')]);
  expect(ended).toMatchObject({ code: 0, signal: null });
  return JSON.parse(ended.stdout);
}

const folders: string[] = [];
function boundary(addon: string | null, place?: string): string {
  const root = installedBoundary(addon, place);
  folders.push(dirname(dirname(root)));
  return root;
}

/** A shared library made of a few lines of C; null without a C compiler. */
function fakeLibrary(source: string): string | null {
  const folder = mkdtempSync(join(tmpdir(), 'sgemoe-fake-'));
  folders.push(folder);
  writeFileSync(join(folder, 'fake.c'), source);
  try {
    execFileSync('cc', ['-shared', '-fPIC', '-o', 'fake.so', 'fake.c'], { cwd: folder, stdio: 'ignore' });
  } catch {
    return null;
  }
  return join(folder, 'fake.so');
}

let bare: string;
let built: string;
beforeAll(() => {
  bare = boundary(null);
  built = ADDON === null ? bare : boundary(ADDON);
});
afterAll(() => {
  for (const folder of folders) {
    rmSync(folder, { recursive: true, force: true });
  }
});

describe.skipIf(WITHOUT_WASM)('a package without an addon, but with WebAssembly', () => {
  let root: string;
  beforeAll(() => {
    root = boundary(null);
    cpSync(dirname(WASM), join(root, 'prebuilds', 'wasm'), { recursive: true });
  });

  it('computes in WebAssembly and warns once, with the reason and the command', async () => {
    const { info, warnings } = await load(root, {}, ['auto', 'auto']);
    expect(info).toMatchObject({
      backend: 'wasm',
      instructionSet: bestInstructionSet(),
      blas: null,
      addonPath: null,
    });
    expect(info?.platform).toContain(process.arch);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({ name: 'SgemoeWarning', code: 'SGEMOE_WASM_BACKEND' });
    expect(warnings[0].message).toContain('computes in WebAssembly, several times slower');
    expect(warnings[0].message).toContain(`${join(root, PREBUILT, 'sgemoe.node')}: no such file`);
    expect(warnings[0].message).toContain('npx sgemoe build');
    expect(info?.notes.join('\n')).toContain('npx sgemoe build');
  });

  it('says nothing when WebAssembly was asked for', async () => {
    const { info, warnings } = await load(root, { SGEMOE_BACKEND: 'wasm' });
    expect(info?.backend).toBe('wasm');
    expect(warnings).toEqual([]);
  });

  it('falls back to the reference, with both reasons, when the file is damaged', async () => {
    const damaged = boundary(null);
    mkdirSync(join(damaged, 'prebuilds', 'wasm'), { recursive: true });
    for (const name of ['kernels.wasm', 'kernels-relaxed.wasm']) {
      writeFileSync(join(damaged, 'prebuilds', 'wasm', name), readFileSync(WASM).subarray(0, 5000));
    }
    const { info, warnings } = await load(damaged);
    expect(info?.backend).toBe('reference');
    expect(warnings[0].code).toBe('SGEMOE_REFERENCE_BACKEND');
    expect(warnings[0].message).toMatch(/kernels(-relaxed)?\.wasm: .+/);
    expect(warnings[0].message).toContain('npx sgemoe build');
  });
});

describe('a package without an addon', () => {
  it('computes with the reference backend and warns once, with the reason and the command', async () => {
    const { info, warnings } = await load(bare, {}, ['auto', 'auto']);
    expect(info).toMatchObject({ backend: 'reference', instructionSet: 'none', blas: null, addonPath: null });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({ name: 'SgemoeWarning', code: 'SGEMOE_REFERENCE_BACKEND' });
    expect(warnings[0].message).toContain(join(bare, 'build', 'Release', 'sgemoe.node'));
    expect(warnings[0].message).toContain(`${join(bare, PREBUILT, 'sgemoe.node')}: no such file`);
    expect(warnings[0].message).toContain('npx sgemoe build');
    expect(info?.notes.join('\n')).toContain('npx sgemoe build');
  });

  it('says that the file the package came with is missing', async () => {
    const { warnings } = await load(bare);
    expect(warnings[0].message).toContain('delete node_modules and install again on this platform');
  });

  it.each([
    [
      'npm',
      { npm_config_user_agent: 'npm/12.2.0 node/v22.9.0 linux x64' },
      'pnpm-lock.yaml',
      'npx sgemoe build',
    ],
    ['pnpm', { npm_config_user_agent: 'pnpm/12.0.0 npm/? node/v22.9.0' }, '', 'pnpm exec sgemoe build'],
    ['Yarn', { npm_config_user_agent: 'yarn/4.18.0 npm/? node/v22.9.0' }, '', 'yarn run sgemoe build'],
    ['Bun', { npm_config_user_agent: 'bun/1.4.5 npm/? node/v22.9.0' }, '', 'bunx sgemoe build'],
    ['the one that left pnpm-lock.yaml', {}, 'pnpm-lock.yaml', 'pnpm exec sgemoe build'],
    ['the one that left yarn.lock', {}, 'yarn.lock', 'yarn run sgemoe build'],
    ['the one that left bun.lock', {}, 'bun.lock', 'bunx sgemoe build'],
    [
      'the one that installed, beside an old lockfile',
      {},
      'node_modules/.package-lock.json yarn.lock',
      'npx sgemoe build',
    ],
  ])('names the command of %s', async (_name, env, traces, command) => {
    const root = boundary(null);
    for (const file of traces.split(' ').filter(Boolean))
      writeFileSync(join(dirname(dirname(root)), file), '');
    const { warnings } = await load(root, { npm_config_user_agent: '', ...env });
    expect(warnings[0].message).toContain(`, then ${command}`);
  });

  it('tells the reason that the last build left', async () => {
    const root = boundary(null);
    mkdirSync(join(root, 'build'));
    writeFileSync(
      join(root, 'build', 'native-status.json'),
      JSON.stringify({ ok: false, reason: 'gyp: not found: make', log: '/some/native.log' }),
    );
    const { warnings } = await load(root);
    expect(warnings[0].message).toContain('gyp: not found: make (log: /some/native.log)');
  });

  it('says nothing when the reference backend was asked for', async () => {
    const { info, warnings } = await load(bare, { SGEMOE_BACKEND: 'reference' });
    expect(info?.backend).toBe('reference');
    expect(warnings).toEqual([]);
  });

  it.each(['wasm', 'builtin', 'openblas', 'accelerate'])('throws when %s is demanded', async (name) => {
    const { error, warnings } = await load(bare, { SGEMOE_BACKEND: name });
    expect(error).toMatchObject({ name: 'SgemoeError', code: 'SGEMOE_BACKEND_UNAVAILABLE' });
    expect(error?.message).toContain(`${process.platform}-${process.arch}`);
    expect(error?.message).toContain('no such file');
    expect(error?.message).toContain(name === 'wasm' ? 'install the package again' : 'npx sgemoe build');
    expect(warnings).toEqual([]);
  });

  it('throws when SGEMOE_ADDON names no file, an unreadable file or another addon', async () => {
    const missing = await load(bare, { SGEMOE_ADDON: '/nonexistent/sgemoe.node' });
    expect(missing.error).toMatchObject({ code: 'SGEMOE_BACKEND_UNAVAILABLE' });
    expect(missing.error?.message).toContain('/nonexistent/sgemoe.node: no such file');

    const broken = join(bare, 'broken.node');
    writeFileSync(broken, 'not a library');
    const unreadable = await load(bare, { SGEMOE_ADDON: broken });
    expect(unreadable.error).toMatchObject({ code: 'SGEMOE_BACKEND_UNAVAILABLE' });
    expect(unreadable.error?.cause).toContain(broken);
    expect(unreadable.error?.message).toContain('SGEMOE_ADDON');
  });

  it('falls back, with the reason, when the built file does not load', async () => {
    const root = boundary(null);
    mkdirSync(join(root, 'build', 'Release'), { recursive: true });
    writeFileSync(join(root, 'build', 'Release', 'sgemoe.node'), 'half a build');
    const { info, warnings } = await load(root);
    expect(info?.backend).toBe('reference');
    expect(warnings).toHaveLength(1);
    expect(warnings[0].message).toMatch(/build.Release.sgemoe\.node: (?!no such file)/);
  });

  it('never loads a Debug build unasked', async () => {
    const root = boundary(null);
    mkdirSync(join(root, 'build', 'Debug'), { recursive: true });
    writeFileSync(join(root, 'build', 'Debug', 'sgemoe.node'), 'half a build');
    const { warnings } = await load(root);
    expect(warnings[0].message).not.toContain('Debug');
  });
});

describe('without a BLAS library', () => {
  it.each(['avx2', 'avxvnni', 'avx512', 'avx512vnni'])('%s multiplies as fast as one', (instructionSet) => {
    const info = { backend: 'builtin', instructionSet } as BackendInfo;
    expect(mayGainFromLibrary(info)).toBe(false);
    expect(mayGainFromLibrary({ ...info, instructionSet: 'baseline' })).toBe(true);
  });
});

describe('misspelt environment variables', () => {
  it.each([
    ['SGEMOE_BACKEND', 'openbals', 'auto, reference, wasm, builtin, openblas, accelerate, blas'],
    ['SGEMOE_EXACT', 'yes', '0 or 1'],
    ['SGEMOE_ISA', 'sse9', 'baseline, avx2, avxvnni, avx512, avx512vnni, neon, neondot, neoni8mm'],
    ['SGEMOE_MATMUL', 'amx', 'fma or split'],
    ['SGEMOE_TILES', 'real', 'model or pairsModel'],
    ['SGEMOE_THREADS', '0', '1..256'],
    ['SGEMOE_THREADS', 'two', '1..256'],
    ['SGEMOE_THREADS', '257', '1..256'],
  ])('%s=%s throws a RangeError with the choices', async (name, value, choices) => {
    const { error } = await load(built, { [name]: value });
    expect(error?.name).toBe('RangeError');
    expect(error?.message).toContain(name);
    expect(error?.message).toContain(choices);
    expect(error?.message).toContain(`'${value}'`);
  });

  it('SGEMOE_BLAS beside a backend that opens no library throws', async () => {
    const { error } = await load(built, { SGEMOE_BACKEND: 'builtin', SGEMOE_BLAS: '/some/libblas.so' });
    expect(error).toMatchObject({ name: 'RangeError' });
    expect(error?.message).toContain('SGEMOE_BLAS must be unset when SGEMOE_BACKEND=builtin');
  });

  it('an empty variable counts as unset', async () => {
    const { error } = await load(built, {
      SGEMOE_BACKEND: '',
      SGEMOE_BLAS: '',
      SGEMOE_ISA: '',
      SGEMOE_THREADS: '',
    });
    expect(error).toBeUndefined();
  });
});

describe.skipIf(ADDON === null)('the addon', () => {
  it('is the prebuilt one where none was built here', async () => {
    const root = boundary(ADDON, PREBUILT);
    const { info, warnings } = await load(root, { SGEMOE_BACKEND: 'builtin' });
    expect(info).toMatchObject({ backend: 'builtin', addonPath: join(root, PREBUILT, 'sgemoe.node') });
    expect(warnings).toEqual([]);
  });

  it('is the prebuilt one where the local build does not load', async () => {
    const root = boundary(ADDON, PREBUILT);
    mkdirSync(join(root, 'build', 'Release'), { recursive: true });
    writeFileSync(join(root, 'build', 'Release', 'sgemoe.node'), 'half a build');
    const { info } = await load(root, { SGEMOE_BACKEND: 'builtin' });
    expect(info?.addonPath).toBe(join(root, PREBUILT, 'sgemoe.node'));
  });

  it('is the local build before the prebuilt one', async () => {
    const root = boundary(ADDON);
    mkdirSync(join(root, PREBUILT), { recursive: true });
    writeFileSync(join(root, PREBUILT, 'sgemoe.node'), 'not to be read');
    const { info } = await load(root, { SGEMOE_BACKEND: 'builtin' });
    expect(info?.addonPath).toBe(join(root, 'build', 'Release', 'sgemoe.node'));
  });

  it('is found in build/Release and reports what it is', async () => {
    const { info, warnings } = await load(built, { SGEMOE_BACKEND: 'builtin', SGEMOE_THREADS: '3' });
    expect(info).toMatchObject({
      backend: 'builtin',
      request: 'builtin',
      blas: null,
      threads: 3,
      addonPath: join(built, 'build', 'Release', 'sgemoe.node'),
    });
    expect(info?.platform).toContain(`${process.platform}-${process.arch}`);
    expect(['baseline', 'avx2', 'avxvnni', 'avx512', 'avx512vnni', 'neon', 'neondot', 'neoni8mm']).toContain(
      info?.instructionSet,
    );
    expect(warnings).toEqual([]);
  });

  it.runIf(process.platform === 'linux')('names the platform by the C library of this Node', async () => {
    Object.assign(process.report, { excludeNetwork: true });
    const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
    const libc = header.glibcVersionRuntime === undefined ? '-musl' : '';
    const { info } = await load(built, { SGEMOE_BACKEND: 'builtin' });
    expect(info?.platform).toBe(`linux-${process.arch}${libc}`);
  });

  it.runIf(process.arch === 'x64')('computes with the instruction set of SGEMOE_ISA', async () => {
    const { info } = await load(built, { SGEMOE_ISA: 'baseline' });
    expect(info?.instructionSet).toBe('baseline');
  });

  it.runIf(process.arch === 'x64')('throws when the processor lacks the instruction set', async () => {
    const { error } = await load(built, { SGEMOE_ISA: 'neon' });
    expect(error).toMatchObject({ name: 'SgemoeError', code: 'SGEMOE_BACKEND_UNAVAILABLE' });
    expect(error?.message).toContain("'neon'");
    expect(error?.message).toContain('unset SGEMOE_ISA');
  });

  it.runIf(process.platform !== 'darwin')('throws when Accelerate is demanded outside macOS', async () => {
    const { error } = await load(built, { SGEMOE_BACKEND: 'accelerate' });
    expect(error).toMatchObject({ name: 'SgemoeError', code: 'SGEMOE_BACKEND_UNAVAILABLE' });
    expect(error?.message).toContain('macOS');
  });

  it('throws when SGEMOE_BACKEND=blas comes without SGEMOE_BLAS', async () => {
    const { error } = await load(built, { SGEMOE_BACKEND: 'blas' });
    expect(error).toMatchObject({ code: 'SGEMOE_BACKEND_UNAVAILABLE' });
    expect(error?.message).toContain('SGEMOE_BLAS');
  });
});

describe.skipIf(ADDON === null || process.platform !== 'linux')('a library named by SGEMOE_BLAS', () => {
  async function refusal(path: string): Promise<string> {
    const { error, warnings } = await load(built, { SGEMOE_BLAS: path });
    expect(error).toMatchObject({ name: 'SgemoeError', code: 'SGEMOE_BACKEND_UNAVAILABLE' });
    expect(error?.message).toContain(path);
    expect(error?.cause).toBeDefined();
    expect(warnings).toEqual([]);
    return error?.message ?? '';
  }

  it('is refused when the file does not exist', async () => {
    expect(await refusal('/nonexistent.so')).toContain('To fix it');
  });

  it('is refused when the file is no library', async () => {
    await refusal(join(built, 'package.json'));
  });

  it('is refused when it has no cblas_sgemm', async () => {
    expect(await refusal('libm.so.6')).toContain('cblas_sgemm');
  });

  const wide = [
    '/usr/lib/x86_64-linux-gnu/libopenblas64.so.0',
    '/usr/lib/aarch64-linux-gnu/libopenblas64.so.0',
  ].find((path) => existsSync(path));
  it.skipIf(wide === undefined)('is refused when it is the OpenBLAS with 64-bit integers', async () => {
    expect(await refusal(wide as string)).toContain('64-bit');
  });

  it.for([
    ['its configuration says so', 'OpenBLAS 0.3.21 NO_LAPACKE USE64BITINT DYNAMIC_ARCH', 'int'],
    ['its cblas_sdot reads 64 bits', 'OpenBLAS 0.3.21 DYNAMIC_ARCH', 'long'],
  ])('is refused for 64-bit integers when %s', async ([, config, integer], { skip }) => {
    const path = fakeLibrary(`
      const char* openblas_get_config(void) { return "${config}"; }
      void cblas_sgemm(void) {}
      float cblas_sdot(${integer} n, const float* x, ${integer} incX, const float* y, ${integer} incY) {
        float sum = 0;
        for (${integer} i = 0; i < n; i++) sum += x[i * incX] * y[i * incY];
        return sum;
      }
    `);
    skip(path === null, 'no C compiler');
    expect(await refusal(path as string)).toContain('64-bit');
  });
});

describe.skipIf(ADDON === null || process.platform !== 'linux')('an addon that finds no BLAS', () => {
  it('multiplies with the built-in kernel, says what OpenBLAS would add, and warns once where that may be much', async ({
    skip,
  }) => {
    // The system looks in LD_LIBRARY_PATH first; libraries without cblas_sgemm there stand for missing ones.
    const path = fakeLibrary('int nothing;');
    skip(path === null, 'no C compiler');
    const folder = dirname(path as string);
    for (const name of ['libopenblas.so.0', 'libopenblas.so', 'libopenblasp.so.0']) {
      copyFileSync(path as string, join(folder, name));
    }
    const { info, warnings } = await load(built, { LD_LIBRARY_PATH: folder }, ['auto', 'auto']);
    expect(info?.backend).toBe('builtin');
    const notes = info?.notes.join('\n');
    expect(notes).toContain('libopenblas0');
    expect(notes).toMatch(/OpenBLAS would add (up to a tenth|on this processor)/);
    const expected = mayGainFromLibrary(info as BackendInfo) ? ['SGEMOE_NO_BLAS'] : [];
    expect(warnings.map(({ code }) => code)).toEqual(expected);
    for (const { message } of warnings) expect(message).toContain('apt-get install');
  });

  it.each([
    ['builtin', 'avx512', false],
    ['builtin', 'avx2', false],
    ['builtin', 'baseline', true],
    ['builtin', 'neon', true],
    ['openblas', 'baseline', false],
    ['accelerate', 'neon', false],
  ] as const)('%s with %s may gain from a library: %s', (backend, instructionSet, gains) => {
    expect(mayGainFromLibrary({ ...createReferenceKernels().info, backend, instructionSet })).toBe(gains);
  });
});
