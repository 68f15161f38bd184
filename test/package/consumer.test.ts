/** The packed tarball in an empty project: with and without a toolchain, with and without install scripts. */
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
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { platformName } from '../../src/backend/native';
import {
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

const MINUTES = 60_000;
const TARBALL_LIMIT_BYTES = 700_000;
/** Of an installation without the addon. */
const PACKAGES_LIMIT = 8;
const INSTALLED_LIMIT_BYTES = 5_000_000;

let folder: string;
let tarball: Tarball;
/** Installed without scripts: all that doesn't need the addon is tested here. */
let plain: string;

beforeAll(async () => {
  folder = temporaryFolder();
  tarball = await pack(folder);
  plain = await install(folder, 'plain', tarball, { flags: ['--ignore-scripts'] });
}, 5 * MINUTES);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

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

async function expectReferenceWithOneWarning(project: string, reason: RegExp): Promise<void> {
  const { info, warnings } = await probe(project);
  expect(info.backend).toBe('reference');
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatchObject({ name: 'SgemoeWarning', code: 'SGEMOE_REFERENCE_BACKEND' });
  expect(warnings[0].message).toMatch(reason);
  expect(warnings[0].message).toContain('npx sgemoe build');
}

describe('the tarball', () => {
  it('holds what an installation needs and nothing else', () => {
    const allowed = [
      /^dist\/.+\.(js|mjs|d\.ts|d\.mts)$/,
      /^dist\/cli\/report\/assets\/page\.css$/,
      /^dist\/serve\/page\/(index\.html|page\.css|icon\.svg|package\.json)$/,
      /^native\/.+\.(cc|h|def)$/,
      /^scripts\/install\.js$/,
      /^(package\.json|LICENSE|README\.md|CHANGELOG\.md|THIRD_PARTY_LICENSES|CMakeLists\.txt|binding\.gyp)$/,
    ];
    expect(tarball.files.filter((file) => !allowed.some((pattern) => pattern.test(file)))).toEqual([]);
    expect(tarball.files).toEqual(
      expect.arrayContaining([
        'dist/index.js',
        'dist/index.mjs',
        'dist/index.d.ts',
        'dist/index.d.mts',
        'dist/cli/main.js',
        'dist/serve/engine/worker.js',
        'dist/cli/report/assets/main.js',
        'dist/cli/report/assets/page.css',
        'dist/serve/page/index.html',
        'dist/serve/page/main.js',
      ]),
    );
    expect(tarball.files).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'binding.gyp',
        'native/addon.cc',
        'native/node-addon-api/napi.h',
      ]),
    );
  });

  it('is small', () => {
    console.log(
      `tarball: ${tarball.bytes} bytes, ${tarball.unpackedBytes} unpacked, ${tarball.files.length} files`,
    );
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
  it('gives import and require the same names and the same classes', async () => {
    writeFileSync(
      join(plain, 'identity.mjs'),
      `import * as esm from 'sgemoe';
       import { createRequire } from 'node:module';
       const cjs = createRequire(import.meta.url)('sgemoe');
       const names = Object.keys(cjs);
       const different = names.filter((name) => cjs[name] !== esm[name]);
       console.log(JSON.stringify({ names, extra: Object.keys(esm).filter((name) => !names.includes(name)), different }));`,
    );
    const { names, extra, different } = JSON.parse((await succeed('node', ['identity.mjs'], plain)).stdout);
    expect(names).toEqual(
      expect.arrayContaining(['MoETransformer', 'Trainer', 'Tensor', 'backendInfo', 'SgemoeError']),
    );
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
    expect(stdout).toContain('reference');
    const wrong = await run('npx', ['--no-install', 'sgemoe', 'info', '--nonsense'], plain);
    expect(wrong.code).toBe(2);
  });

  it('depends on three packages, and none of those that they bring runs an install script', () => {
    const { packages } = JSON.parse(readFileSync(join(plain, 'package-lock.json'), 'utf8'));
    expect(Object.keys(packages['node_modules/sgemoe'].dependencies).sort()).toEqual([
      '@huggingface/jinja',
      'commander',
    ]);
    const running = Object.keys(packages).filter((name) => packages[name].hasInstallScript);
    expect(running).toEqual(['node_modules/sgemoe']);
  });

  it(`is at most ${PACKAGES_LIMIT} packages and ${INSTALLED_LIMIT_BYTES} bytes with all that it brings`, () => {
    const files = readdirSync(join(plain, 'node_modules'), { recursive: true, encoding: 'utf8' });
    const homes = files.filter((name) => /(^|[\\/])package\.json$/.test(name)).map((name) => dirname(name));
    const packages = homes.filter((home) => /^(@[^\\/]+[\\/])?[^\\/]+$/.test(home));
    const bytes = files.reduce((sum, name) => sum + statSync(join(plain, 'node_modules', name)).size, 0);
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

  it('brings the licence of what is bundled, in the version that is', () => {
    const home = join(plain, 'node_modules', 'sgemoe');
    const licences = readFileSync(join(home, 'THIRD_PARTY_LICENSES'), 'utf8');
    const bundled = { 'node-addon-api': 'LICENSE.md', uplot: 'LICENSE' };
    for (const [name, file] of Object.entries(bundled)) {
      const source = join(ROOT, 'node_modules', name);
      const { version } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8'));
      expect(licences).toContain(`${name} ${version} (MIT)`);
      expect(licences).toContain(readFileSync(join(source, file), 'utf8').trim());
    }
    const headers = readdirSync(join(home, 'native', 'node-addon-api')).sort();
    expect(headers).toEqual(['napi-inl.deprecated.h', 'napi-inl.h', 'napi.h']);
  });

  it('draws a report: the files of the page are in it', async () => {
    writeFileSync(join(plain, 'metrics.jsonl'), '{"step":1,"crossEntropy":2}\n');
    const { stdout } = await succeed('npx', ['sgemoe', 'report', '.'], plain);
    expect(stdout).toMatch(/^report\.html: 1 run/);
  });
});

describe('an installation without an addon', () => {
  it('works with --ignore-scripts: the reference backend, one warning', () =>
    expectReferenceWithOneWarning(plain, /install script never ran/));

  it.skipIf(process.platform === 'win32')(
    'works without a toolchain: the reference backend, one warning',
    async () => {
      const env = { PATH: pathWithoutToolchain(folder), CC: '', CXX: '' };
      const project = await install(folder, 'toolless', tarball, { env });
      expect(existsSync(join(project, 'node_modules', 'sgemoe', 'build', 'Release', 'sgemoe.node'))).toBe(
        false,
      );
      await expectReferenceWithOneWarning(project, /At install: gyp: .*Python/i);
    },
    5 * MINUTES,
  );

  it('throws when a native backend is demanded', async () => {
    writeFileSync(join(plain, 'demand.cjs'), `require('sgemoe').backendInfo();`);
    const { code, stderr } = await run('node', ['demand.cjs'], plain, { SGEMOE_BACKEND: 'builtin' });
    expect(code).toBe(1);
    expect(stderr).toContain('SGEMOE_BACKEND_UNAVAILABLE');
    expect(stderr).toContain('npx sgemoe build');
  });
});

describe.skipIf(!hasToolchain())('an installation with a toolchain', () => {
  let native: string;
  beforeAll(async () => {
    native = await install(folder, 'native', tarball);
    if (!existsSync(join(native, 'node_modules', 'sgemoe', 'build'))) {
      // npm 12 and later: the command that the warning names.
      await succeed('npx', ['--no-install', 'sgemoe', 'build'], native, { SGEMOE_BUILD: 'gyp' });
    }
  }, 15 * MINUTES);

  it("builds the addon with npm's node-gyp, without cmake-js", async () => {
    const home = join(native, 'node_modules', 'sgemoe');
    const status = JSON.parse(readFileSync(join(home, 'build', 'install-status.json'), 'utf8'));
    expect(status).toMatchObject({ ok: true, tool: 'gyp' });
    expect(existsSync(join(native, 'node_modules', 'cmake-js'))).toBe(false);
    expect(readdirSync(join(home, 'build')).sort()).toEqual([
      'Release',
      'install-status.json',
      'install.log',
    ]);
    expect(readdirSync(join(home, 'build', 'Release'))).toEqual(['sgemoe.node']);
    const { info, warnings } = await probe(native, { SGEMOE_BACKEND: 'builtin' });
    expect(info).toMatchObject({
      backend: 'builtin',
      addonPath: join(home, 'build', 'Release', 'sgemoe.node'),
    });
    expect(warnings).toEqual([]);
  });

  it('takes the fastest backend by itself', async () => {
    const { info, warnings } = await probe(native);
    expect(info.backend).not.toBe('reference');
    expect(warnings.map(({ code }: { code: string }) => code)).toEqual(
      info.blas === null ? ['SGEMOE_NO_BLAS'] : [],
    );
  });

  it('gets one by sgemoe build where no script ran, with a build tool that npx fetches', async () => {
    const project = await install(folder, 'scriptless', tarball, { flags: ['--ignore-scripts'] });
    const { stdout } = await succeed('npx', ['--no-install', 'sgemoe', 'build'], project);
    expect(stdout).toMatch(/^The addon is built/);
    expect(existsSync(join(project, 'node_modules', 'cmake-js'))).toBe(false);
    const { info, warnings } = await probe(project, { SGEMOE_BACKEND: 'builtin' });
    expect(info.backend).toBe('builtin');
    expect(warnings).toEqual([]);
  });

  it('takes a prebuilt addon where the scripts did not run', async () => {
    const prebuilds = join(plain, 'node_modules', 'sgemoe', 'prebuilds', platformName());
    mkdirSync(prebuilds, { recursive: true });
    cpSync(
      join(native, 'node_modules', 'sgemoe', 'build', 'Release', 'sgemoe.node'),
      join(prebuilds, 'sgemoe.node'),
    );
    const { info } = await probe(plain, { SGEMOE_BACKEND: 'builtin' });
    expect(info).toMatchObject({ backend: 'builtin', addonPath: join(prebuilds, 'sgemoe.node') });
    rmSync(prebuilds, { recursive: true });
  });
});
