/**
 * The packed tarball in an empty project is native at once, without a script, a compiler or a BLAS, and says so when it
 * isn't.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, posix } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mayGainFromLibrary } from '../../src/backend';
import { platformName } from '../../src/backend/platform';
import {
  copyClone,
  hasToolchain,
  install,
  pack,
  pathWithoutToolchain,
  ROOT,
  run,
  succeed,
  type Tarball,
  temporaryFolder,
} from './project';

const { checkBinary } = createRequire(__filename)('../../.ci/platforms/binaries.js') as {
  checkBinary: (file: string, platform: string) => { name: string; fault: string | null }[];
};

const MINUTES = 60_000;
/**
 * Limits in bytes: of the whole with its eight addons, of one addon, and of the rest, which has dist/web with the
 * kernels of WebAssembly. On x64 there are five instruction sets, two of them for a few kernels, on arm64 three, likewise; the eight addons have 4.3 MB, so that 1.7 MB are left for the rest.
 */
const TARBALL_LIMIT_BYTES = 6_000_000;
const X64_ADDON_LIMIT_BYTES = 750_000;
const ARM64_ADDON_LIMIT_BYTES = 450_000;
const REST_LIMIT_BYTES = 1_700_000;
const PACKAGES_LIMIT = 8;
/** Limit of an installation without prebuilds/. */
const INSTALLED_LIMIT_BYTES = 5_000_000;
/** Texts of programs for elsewhere, which import nothing from here. */
const GENERATED = ['dist/serve/engine/workerProgram.js', 'dist/serve/http/pageFiles.js'];

let folder: string;
let tarball: Tarball;
/** What everybody has. */
let plain: string;
/** The same without prebuilds/. */
let bare: string;

beforeAll(async () => {
  folder = temporaryFolder();
  tarball = await pack(folder);
  plain = await install(folder, 'plain', tarball);
  bare = join(folder, 'bare');
  copyProject(plain, bare);
  rmSync(join(bare, 'node_modules', 'sgemoe', 'prebuilds'), { recursive: true });
}, 10 * MINUTES);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Links in it stay relative, so that its commands are its own. */
function copyProject(from: string, to: string): void {
  cpSync(from, to, { recursive: true, verbatimSymlinks: true });
}

/** Loads the package, computes something, and tells which backend did it and which warnings came. */
const PROBE = `
  const warnings = [];
  process.on('warning', ({ name, code, message }) => warnings.push({ name, code, message }));
  const { backendInfo, MoETransformer } = require('sgemoe');
  const logits = MoETransformer.tiny({ seed: 42 }).forwardIds([1, 2, 3, 4], 1, 4);
  const info = backendInfo();
  setImmediate(() => console.log(JSON.stringify({ info, warnings, shape: logits.shape, finite: logits.data.every(Number.isFinite) })));
`;

async function probe(project: string, env: Record<string, string> = {}) {
  writeFileSync(join(project, 'probe.cjs'), PROBE);
  const { stdout } = await succeed('node', ['probe.cjs'], project, env);
  const outcome = JSON.parse(stdout);
  expect(outcome).toMatchObject({ shape: [1, 4, 1000], finite: true });
  return outcome;
}

describe('the tarball', () => {
  it('holds what an installation needs and nothing else', () => {
    const allowed = [
      /^dist\/.+\.(js|mjs|d\.ts|d\.mts)$/,
      /^dist\/cli\/report\/assets\/page\.css$/,
      /^dist\/web\/((base|demo|page)\.css|demo\.html|icon\.svg|kernels(-relaxed)?\.wasm\.gz)$/,
      /^native\/.+\.(cc|h|def)$/,
      /^native\/binding\.gyp$/,
      /^prebuilds\/((linux|darwin|win32)-(x64|arm64)(-musl)?\/sgemoe\.node|checksums\.txt)$/,
      /^scripts\/build-native\.js$/,
      /^(package\.json|LICENSE|README\.md|THIRD_PARTY_LICENSES|CMakeLists\.txt)$/,
    ];
    expect(tarball.files.filter((file) => !allowed.some((pattern) => pattern.test(file)))).toEqual([]);
    expect(tarball.files).toEqual(
      expect.arrayContaining([
        'dist/index.js',
        'dist/index.mjs',
        'dist/index.d.ts',
        'dist/index.d.mts',
        'dist/cli/main.js',
        'dist/cli/report/assets/main.js',
        'dist/cli/report/assets/page.css',
        'dist/serve/engine/workerProgram.js',
        'dist/serve/http/pageFiles.js',
      ]),
    );
    expect(tarball.files).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'native/addon.cc',
        'native/binding.gyp',
        'native/node-addon-api/napi.h',
        `prebuilds/${platformName()}/sgemoe.node`,
      ]),
    );
  });

  it('has nothing that a package manager would run or build at an install', () => {
    const { scripts, gypfile } = JSON.parse(
      readFileSync(join(plain, 'node_modules', 'sgemoe', 'package.json'), 'utf8'),
    );
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$/.test(name))).toEqual([]);
    expect(gypfile).toBe(false);
    expect(tarball.files).not.toContain('binding.gyp');
  });

  it('has every file that its programs and declarations import, and no declaration besides', () => {
    const home = join(plain, 'node_modules', 'sgemoe');
    const imports = /(?:\brequire\(|\bfrom |\bimport\()["'](\.[^"']+)["']/g;
    const imported = new Set(
      ['index.d.ts', 'index.d.mts', 'ai.d.ts', 'ai.d.mts', 'web.d.ts'].map((name) => `dist/${name}`),
    );
    const missing: string[] = [];
    for (const file of tarball.files.filter((name) =>
      /^dist\/(?!web\/|cli\/report\/assets\/).+\.(js|mjs|d\.ts|d\.mts)$/.test(name),
    )) {
      const ending = /\.d\.m?ts$/.test(file) ? '.d.ts' : '.js';
      for (const [, specifier] of readFileSync(join(home, file), 'utf8').matchAll(imports)) {
        if (/\.(json|node)$/.test(specifier)) continue;
        const target = posix.join(posix.dirname(file), specifier).replace(/\.js$/, '');
        const found = [`${target}${ending}`, `${target}/index${ending}`].find((name) =>
          tarball.files.includes(name),
        );
        if (found !== undefined) imported.add(found);
        else if (!GENERATED.includes(file)) missing.push(`${file}: ${specifier}`);
      }
    }
    expect(missing).toEqual([]);
    expect(tarball.files.filter((name) => /^dist\/.+\.d\.m?ts$/.test(name) && !imported.has(name))).toEqual(
      [],
    );
  });

  it('is small', () => {
    console.log(
      `tarball: ${tarball.bytes} bytes, ${tarball.unpackedBytes} unpacked, ${tarball.files.length} files`,
    );
    const home = join(plain, 'node_modules', 'sgemoe');
    const addons = tarball.files.filter((file) => file.endsWith('.node'));
    const packed = addons.map((file) => gzipSync(readFileSync(join(home, file)), { level: 9 }).length);
    for (const [i, bytes] of packed.entries()) {
      const limit = addons[i].includes('arm64') ? ARM64_ADDON_LIMIT_BYTES : X64_ADDON_LIMIT_BYTES;
      expect(bytes, addons[i]).toBeLessThan(limit);
    }
    expect(tarball.bytes - packed.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(REST_LIMIT_BYTES);
    expect(tarball.bytes).toBeLessThan(TARBALL_LIMIT_BYTES);
  });
});

/** Whether a range of versions such as '>=18' or '^20.17 || >=22.2' has 20.17.0 in it. */
function acceptsNode20(range: string): boolean {
  return range.split('||').some((part) => {
    const [, kind, major, minor = '0'] = /^\s*(>=|\^)\s*(\d+)(?:\.(\d+))?(?:\.\d+)?\s*$/.exec(part)!;
    if (kind === '^' && major !== '20') return false;
    return Number(major) < 20 || (major === '20' && Number(minor) <= 17);
  });
}

describe('an installed package', () => {
  it('computes natively at once, with the addon that it came with', async () => {
    const { info, warnings } = await probe(plain);
    expect(info.backend).not.toBe('reference');
    expect(info.addonPath).toBe(
      join(plain, 'node_modules', 'sgemoe', 'prebuilds', platformName(), 'sgemoe.node'),
    );
    expect(warnings.map(({ code }: { code: string }) => code)).toEqual(
      mayGainFromLibrary(info) ? ['SGEMOE_NO_BLAS'] : [],
    );
  });

  it.skipIf(process.platform !== 'linux')(
    'asks of the system what Linux had in 2012: glibc 2.17 or any musl, no libstdc++; and names nothing of its builder',
    () => {
      const addon = join(plain, 'node_modules', 'sgemoe', 'prebuilds', platformName(), 'sgemoe.node');
      const checks = checkBinary(addon, platformName());
      expect(checks.length).toBeGreaterThan(2);
      expect(checks.filter(({ fault }) => fault !== null)).toEqual([]);
    },
  );

  it.each([
    ['sgemoe', ['MoETransformer', 'Trainer', 'Tensor', 'backendInfo', 'SgemoeError']],
    ['sgemoe/ai', ['createSgemoe']],
  ])('gives import and require of %s the same names and the same classes', async (entry, known) => {
    writeFileSync(
      join(plain, 'identity.mjs'),
      `import * as esm from '${entry}';
       import { createRequire } from 'node:module';
       const cjs = createRequire(import.meta.url)('${entry}');
       const names = Object.keys(cjs);
       const different = names.filter((name) => cjs[name] !== esm[name]);
       console.log(JSON.stringify({ names, extra: Object.keys(esm).filter((name) => !names.includes(name)), different }));`,
    );
    const { names, extra, different } = JSON.parse((await succeed('node', ['identity.mjs'], plain)).stdout);
    expect(names).toEqual(expect.arrayContaining(known));
    expect({ extra, different }).toEqual({ extra: [], different: [] });
  });

  it.each([
    ['an ES module', 'consumer.mts', 'consumer.mjs'],
    ['a CommonJS module', 'consumer.cts', 'consumer.cjs'],
  ])('compiles under nodenext in %s, and runs', async (_kind, source, compiled) => {
    cpSync(join(__dirname, 'consumer.txt'), join(plain, source));
    const tsconfig = {
      compilerOptions: {
        module: 'nodenext',
        target: 'es2022',
        strict: true,
        types: ['node'],
        typeRoots: [join(ROOT, 'node_modules', '@types')],
      },
      files: [source],
    };
    writeFileSync(join(plain, 'tsconfig.json'), JSON.stringify(tsconfig));
    await succeed(
      'node',
      [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json'],
      plain,
    );
    const { stdout } = await succeed('node', [compiled], plain);
    expect(stdout).toBe('ok\n');
  });

  it('brings the command sgemoe', async () => {
    const { stdout } = await succeed('npx', ['--no-install', 'sgemoe', 'info'], plain);
    expect(stdout).toContain(join('prebuilds', platformName()));
    const wrong = await run('npx', ['--no-install', 'sgemoe', 'info', '--nonsense'], plain);
    expect(wrong.code).toBe(2);
  });

  it('depends on two packages, and nothing that is installed runs a script', () => {
    const { packages } = JSON.parse(readFileSync(join(plain, 'package-lock.json'), 'utf8'));
    expect(Object.keys(packages['node_modules/sgemoe'].dependencies).sort()).toEqual([
      '@huggingface/jinja',
      'commander',
    ]);
    const running = Object.keys(packages).filter((name) => packages[name].hasInstallScript);
    expect(running).toEqual([]);
  });

  it(`is at most ${PACKAGES_LIMIT} packages and ${INSTALLED_LIMIT_BYTES} bytes with all that it brings`, () => {
    const files = readdirSync(join(plain, 'node_modules'), { recursive: true, encoding: 'utf8' });
    const homes = files.filter((name) => /(^|[\\/])package\.json$/.test(name)).map((name) => dirname(name));
    const packages = homes.filter((home) => /^(@[^\\/]+[\\/])?[^\\/]+$/.test(home));
    const bytes = files
      .filter((name) => !name.startsWith(join('sgemoe', 'prebuilds')))
      .reduce((sum, name) => sum + statSync(join(plain, 'node_modules', name)).size, 0);
    console.log(`installed: ${packages.length} packages, ${bytes} bytes`);
    expect(packages).toContain('sgemoe');
    expect(packages.length).toBeLessThanOrEqual(PACKAGES_LIMIT);
    expect(bytes).toBeLessThan(INSTALLED_LIMIT_BYTES);
  });

  it('has no package that refuses Node 20.17, as Yarn 1 would', () => {
    const { packages } = JSON.parse(readFileSync(join(plain, 'package-lock.json'), 'utf8'));
    for (const [name, { engines }] of Object.entries<{ engines?: { node?: string } }>(packages)) {
      expect(acceptsNode20(engines?.node ?? '>=0'), `${name}: ${engines?.node}`).toBe(true);
    }
    for (const range of ['>=22', '^22.2 || >=24', '>=20.18']) expect(acceptsNode20(range)).toBe(false);
  });

  it('has the licence of each bundled or linked package, in its version', () => {
    const home = join(plain, 'node_modules', 'sgemoe');
    const licences = readFileSync(join(home, 'THIRD_PARTY_LICENSES'), 'utf8');
    const bundled = { 'node-addon-api': 'LICENSE.md', '@huggingface/jinja': 'LICENSE', uplot: 'LICENSE' };
    for (const [name, file] of Object.entries(bundled)) {
      const source = join(ROOT, 'node_modules', name);
      const { version } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8'));
      expect(licences).toContain(`${name} ${version} (MIT)`);
      expect(licences).toContain(readFileSync(join(source, file), 'utf8').trim());
    }
    const linked = {
      'compiler-rt of zig': 'LICENSE',
      'libc++, libc++abi and libunwind of LLVM': 'lib/libcxx/LICENSE.TXT',
      'the runtime of mingw-w64, with gdtoa': 'lib/libc/mingw/COPYING',
      'wasi-libc, with musl': 'lib/libc/wasi/libc-top-half/musl/COPYRIGHT',
    };
    const [, pinned] = /ziglang==([\d.]+)/.exec(
      readFileSync(join(ROOT, 'scripts', 'ziglang.txt'), 'utf8'),
    ) as RegExpExecArray;
    for (const [name, file] of Object.entries(linked)) {
      expect(licences).toContain(`${name}, with zig ${pinned} (`);
      expect(licences).toContain(readFileSync(join(ROOT, 'build', 'zig', 'ziglang', file), 'utf8').trim());
    }
    expect(licences).toContain('The author of this software is David M. Gay.');
    const headers = readdirSync(join(home, 'native', 'node-addon-api')).sort();
    expect(headers).toEqual(['napi-inl.deprecated.h', 'napi-inl.h', 'napi.h']);
  });

  it('draws a report: the files of the page are in it', async () => {
    writeFileSync(join(plain, 'metrics.jsonl'), '{"step":1,"crossEntropy":2}\n');
    const { stdout } = await succeed('npx', ['sgemoe', 'report', '.'], plain);
    expect(stdout).toMatch(/^report\.html: 1 run/);
  });
});

describe('sgemoe prune', () => {
  it('leaves the addon of this platform, and the package still works', async () => {
    const project = join(folder, 'pruned');
    copyProject(plain, project);
    const prebuilds = join(project, 'node_modules', 'sgemoe', 'prebuilds');
    mkdirSync(join(prebuilds, 'aix-ppc64'));
    writeFileSync(join(prebuilds, 'aix-ppc64', 'sgemoe.node'), 'of another platform');
    const { stdout } = await succeed('npx', ['--no-install', 'sgemoe', 'prune'], project);
    expect(stdout).toMatch(new RegExp(`^Kept prebuilds/${platformName()}, removed \\d+ other`));
    const left = readdirSync(prebuilds).filter((name) => name !== 'checksums.txt');
    expect(left).toEqual([platformName()]);
    expect((await probe(project)).info.addonPath).toBe(join(prebuilds, platformName(), 'sgemoe.node'));
  });
});

describe('an installation without an addon for this platform', () => {
  // In CI the kernels of WebAssembly are always packed, a clone without them packs none.
  const fallback = () => (tarball.files.includes('dist/web/kernels.wasm.gz') ? 'wasm' : 'reference');

  it('computes in WebAssembly, with the kernels of the module for browsers, and warns once', async () => {
    const { info, warnings } = await probe(bare);
    expect(info.backend).toBe(fallback());
    expect(warnings).toHaveLength(1);
    const code = `SGEMOE_${fallback().toUpperCase()}_BACKEND`;
    expect(warnings[0]).toMatchObject({ name: 'SgemoeWarning', code });
    expect(warnings[0].message).toContain('npx sgemoe build');
  });

  it('throws when a native backend is demanded', async () => {
    writeFileSync(join(bare, 'demand.cjs'), `require('sgemoe').backendInfo();`);
    const { code, stderr } = await run('node', ['demand.cjs'], bare, { SGEMOE_BACKEND: 'builtin' });
    expect(code).toBe(1);
    expect(stderr).toContain('SGEMOE_BACKEND_UNAVAILABLE');
    expect(stderr).toContain('npx sgemoe build');
  });

  it.skipIf(process.platform === 'win32')('tells why sgemoe build failed, in its warning, too', async () => {
    const project = join(folder, 'toolless');
    copyProject(bare, project);
    const env = { PATH: pathWithoutToolchain(folder), CC: '', CXX: '', SGEMOE_BUILD: 'gyp' };
    const built = await run('npx', ['--no-install', 'sgemoe', 'build'], project, env);
    expect(built.code).toBe(1);
    expect(built.stderr).toMatch(/the native addon was not built\. gyp: .*Python/i);
    expect(existsSync(join(project, 'node_modules', 'sgemoe', 'binding.gyp'))).toBe(false);
    const { info, warnings } = await probe(project);
    expect(info.backend).toBe(fallback());
    expect(warnings[0].message).toMatch(/The last build: gyp: .*Python/i);
  });

  it.skipIf(!hasToolchain())(
    "gets one by sgemoe build, with npm's node-gyp and without cmake-js",
    async () => {
      const { stdout } = await succeed('npx', ['--no-install', 'sgemoe', 'build'], bare, {
        SGEMOE_BUILD: 'gyp',
      });
      expect(stdout).toMatch(/^The addon is built/);
      const home = join(bare, 'node_modules', 'sgemoe');
      const status = JSON.parse(readFileSync(join(home, 'build', 'native-status.json'), 'utf8'));
      expect(status).toMatchObject({ ok: true, tool: 'gyp' });
      expect(existsSync(join(bare, 'node_modules', 'cmake-js'))).toBe(false);
      expect(existsSync(join(home, 'binding.gyp'))).toBe(false);
      const left = ['Release', 'native-status.json', 'native.log'];
      expect(readdirSync(join(home, 'build')).sort()).toEqual(left);
      expect(readdirSync(join(home, 'build', 'Release'))).toEqual(['sgemoe.node']);
      const { info, warnings } = await probe(bare, { SGEMOE_BACKEND: 'builtin' });
      expect(info).toMatchObject({
        backend: 'builtin',
        addonPath: join(home, 'build', 'Release', 'sgemoe.node'),
      });
      expect(warnings).toEqual([]);
    },
    15 * MINUTES,
  );
});

describe('a clone', () => {
  it.skipIf(process.platform === 'win32')(
    'is prepared without tools, too: parts that need them are skipped, with a sentence',
    async () => {
      const parent = join(folder, 'without tools');
      mkdirSync(parent);
      const clone = copyClone(parent);
      const env = { PATH: pathWithoutToolchain(parent), CC: '', CXX: '' };
      const { stderr } = await succeed('npm', ['run', 'prepare'], clone, env);
      expect(stderr).toMatch(/the native addon was not built\. gyp: .*Python/i);
      expect(stderr).toContain('dist/ was not built, since TypeScript is not installed');
      const status = JSON.parse(readFileSync(join(clone, 'build', 'native-status.json'), 'utf8'));
      expect(status).toMatchObject({ ok: false });
    },
  );
});
