/**
 * What bundlers make of a program that trains nothing but computes, serves and shows the page: what they write is moved
 * elsewhere and is native there, addon, worker and page included; or they fail in words.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { platformName } from '../../src/backend/platform';
import { type Ended, install, pack, run, succeed, type Tarball, temporaryFolder } from './project';

const MINUTES = 60_000;
const TOOLS = [
  'esbuild@0.28',
  'webpack@5',
  '@rspack/core@2',
  'node-loader@2',
  'rollup@4',
  '@rollup/plugin-commonjs',
  '@rollup/plugin-json',
  '@rollup/plugin-node-resolve',
  'vite@8',
  '@vercel/nft@1',
  '@vercel/ncc@0.45',
  'postject@1.0.0-alpha.6',
];
const PLATFORMS = [
  'linux-x64',
  'linux-arm64',
  'linux-x64-musl',
  'linux-arm64-musl',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64',
  'win32-arm64',
];

const PROGRAM = `
async function main() {
  const { backendInfo, ByteTokenizer, Engine, MoETransformer, serve } = sgemoe;
  const model = MoETransformer.tiny({ seed: 42 });
  if (!model.forwardIds([1, 2, 3, 4], 1, 4).data.every(Number.isFinite)) throw new Error('not finite');
  const engine = await Engine.create(model, new ByteTokenizer(), { maxBatch: 2 });
  const { usage } = await engine.generate({ prompt: 'a', maxTokens: 3, seed: 1 });
  const server = await serve({ engine, port: 0 });
  const page = (await (await fetch(server.url)).text()).includes('<title>');
  await server.close();
  await engine.close();
  const { backend, addonPath } = backendInfo();
  console.log(JSON.stringify({ backend, addonPath, tokens: usage.completionTokens, page }));
}
main();
`;

/** rspack takes webpack's configuration. */
const WEBPACK = `
const [bundler, format, mode] = process.argv.slice(2);
const build = bundler === 'webpack' ? require('webpack') : require('@rspack/core').rspack;
const isModule = format === 'mjs';
build({
  mode: 'production',
  target: 'node',
  entry: './app.' + format,
  output: {
    path: require('node:path').resolve('out/' + bundler + '-' + format),
    filename: 'app.' + format,
    publicPath: '',
    ...(isModule ? { module: true, chunkFormat: 'module' } : {}),
  },
  experiments: { outputModule: isModule },
  node: { __dirname: isModule ? 'node-module' : false },
  module: { rules: mode === 'loader' ? [{ test: /\\.node$/, loader: 'node-loader' }] : [] },
  externals: mode === 'external' ? { sgemoe: (isModule ? 'module' : 'commonjs') + ' sgemoe' } : {},
}, (error, stats) => {
  console.error(error ?? stats.toString({ all: false, errors: true }));
  process.exitCode = error || stats.hasErrors() ? 1 : 0;
});
`;

const ROLLUP = `
import commonjs from '@rollup/plugin-commonjs';
import json from '@rollup/plugin-json';
import resolve from '@rollup/plugin-node-resolve';
export default {
  input: 'app.mjs',
  output: { file: 'out/rollup/app.mjs', format: 'es' },
  external: process.env.EXTERNAL ? ['sgemoe'] : [],
  plugins: [resolve({ preferBuiltins: true }), commonjs(), json()],
};
`;

const VITE = `
export default {
  build: { ssr: 'app.mjs', outDir: 'out/vite' },
  ssr: process.env.EXTERNAL ? {} : { noExternal: true },
};
`;

const NFT = `
import { nodeFileTrace } from '@vercel/nft';
import { cpSync } from 'node:fs';
const { fileList } = await nodeFileTrace(['app.cjs']);
for (const file of fileList) cpSync(file, 'out/nft/' + file);
`;

const SINGLE = `
process.env.SGEMOE_ADDON ??= require('node:path').join(require('node:path').dirname(process.execPath), 'sgemoe.node');
const sgemoe = require('sgemoe');${PROGRAM}`;
const REQUIRE_BANNER =
  'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);';

const NEXT = {
  'next.config.mjs': `
    export default {
      output: 'standalone',
      outputFileTracingRoot: import.meta.dirname,
      ...(process.env.EXTERNAL ? { serverExternalPackages: ['sgemoe'] } : {}),
    };`,
  'app/layout.js': 'export default ({ children }) => <html><body>{children}</body></html>;',
  'app/api/route.js': `
    import { backendInfo, ByteTokenizer, Engine, MoETransformer } from 'sgemoe';
    export const dynamic = 'force-dynamic';
    export async function GET() {
      const engine = await Engine.create(MoETransformer.tiny({ seed: 42 }), new ByteTokenizer());
      const { usage } = await engine.generate({ prompt: 'a', maxTokens: 3, seed: 1 });
      await engine.close();
      const { backend, addonPath } = backendInfo();
      return Response.json({ backend, addonPath, tokens: usage.completionTokens });
    }`,
};

let folder: string;
let tarball: Tarball;
let project: string;
let addon: string;

/** A project with the package, with these packages beside it. */
async function projectWith(name: string, packages: string[], files: Record<string, string>): Promise<string> {
  const home = await install(folder, name, tarball);
  await succeed('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packages], home);
  const prebuilds = join(home, 'node_modules', 'sgemoe', 'prebuilds');
  for (const platform of PLATFORMS.filter((entry) => !existsSync(join(prebuilds, entry)))) {
    // The clone builds only its own platform's addon; this file stands for the others, which nothing here loads.
    mkdirSync(join(prebuilds, platform));
    writeFileSync(join(prebuilds, platform, 'sgemoe.node'), `the addon of ${platform}`);
  }
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(home, path)), { recursive: true });
    writeFileSync(join(home, path), text);
  }
  return home;
}

beforeAll(async () => {
  folder = temporaryFolder();
  tarball = await pack(folder);
  project = await projectWith('app', TOOLS, {
    'app.cjs': `const sgemoe = require('sgemoe');${PROGRAM}`,
    'app.mjs': `import * as sgemoe from 'sgemoe';${PROGRAM}`,
    'webpack.cjs': WEBPACK,
    'rollup.config.mjs': ROLLUP,
    'vite.config.mjs': VITE,
    'nft.mjs': NFT,
    'single.cjs': SINGLE,
  });
  addon = join(project, 'node_modules', 'sgemoe', 'prebuilds', platformName(), 'sgemoe.node');
}, 20 * MINUTES);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function tool(name: string, args: string[], env: Record<string, string> = {}): Promise<Ended> {
  return run(join(project, 'node_modules', '.bin', name), args, project, env);
}

const node = (args: string[]): Promise<Ended> => run('node', args, project);

async function works(bundling: Promise<Ended>): Promise<void> {
  const { code, stdout, stderr } = await bundling;
  expect(code, `${stdout}\n${stderr}`).toBe(0);
}

/** Bundling fails, and names the file that the bundler can't take. */
async function failsInWords(bundling: Promise<Ended>, words: RegExp): Promise<void> {
  const { code, stdout, stderr } = await bundling;
  expect(code).not.toBe(0);
  expect(stdout + stderr).toMatch(words);
  expect(stdout + stderr).toContain('sgemoe.node');
}

/** What `command` in a copy of out/<name> prints, where no node_modules are. */
async function runMoved(name: string, [command, ...args]: string[]): Promise<Ended & { home: string }> {
  const home = join(folder, 'moved', name);
  mkdirSync(dirname(home), { recursive: true });
  cpSync(join(project, 'out', name), home, { recursive: true });
  return { home, ...(await run(command, args, home)) };
}

async function expectNative(name: string, command: string[]): Promise<void> {
  const { home, code, stdout, stderr } = await runMoved(name, command);
  expect(code, stderr).toBe(0);
  const outcome = JSON.parse(stdout);
  expect(outcome).toMatchObject({ tokens: 3, page: true });
  expect(outcome.backend).not.toBe('reference');
  expect(outcome.addonPath.startsWith(realpathSync(home)), outcome.addonPath).toBe(true);
}

/** With sgemoe left out of the bundle, the installed package is used. */
async function expectExternal(file: string): Promise<void> {
  const { stdout } = await succeed('node', [join('out', file)], project);
  expect(JSON.parse(stdout)).toMatchObject({ tokens: 3, page: true, addonPath: realpathSync(addon) });
}

describe('esbuild', () => {
  const esbuild = (from: string, to: string, ...options: string[]) =>
    tool('esbuild', [from, '--bundle', '--platform=node', `--outfile=out/${to}`, ...options]);

  it('bundles to CommonJS with the loader "copy"', async () => {
    await works(esbuild('app.cjs', 'esbuild-cjs/app.js', '--loader:.node=copy'));
    await expectNative('esbuild-cjs', ['node', 'app.js']);
  });

  it('bundles to an ES module with a banner that defines require', async () => {
    const options = ['--format=esm', '--loader:.node=copy', `--banner:js=${REQUIRE_BANNER}`];
    await works(esbuild('app.mjs', 'esbuild-esm/app.mjs', ...options));
    await expectNative('esbuild-esm', ['node', 'app.mjs']);
  });

  it('leaves it out', async () => {
    await works(esbuild('app.mjs', 'esbuild-external.mjs', '--format=esm', '--external:sgemoe'));
    await expectExternal('esbuild-external.mjs');
  });

  it('fails with a sentence without a loader', () =>
    failsInWords(esbuild('app.cjs', 'esbuild-none/app.js'), /No loader is configured for ".node" files/));

  it('gives a bundle without the addon that fails with a sentence, too', async () => {
    await works(esbuild('app.cjs', 'esbuild-bare/app.js', '--external:*.node'));
    const { code, stderr } = await runMoved('esbuild-bare', ['node', 'app.js']);
    expect(code).not.toBe(0);
    expect(stderr).toContain('SGEMOE_BACKEND_UNAVAILABLE');
    expect(stderr).toContain('this is a bundle: leave sgemoe out of it');
  });
});

describe.each(['webpack', 'rspack'])('%s', (bundler) => {
  it.each(['cjs', 'mjs'])('bundles to %s with node-loader', async (format) => {
    await works(node(['webpack.cjs', bundler, format, 'loader']));
    await expectNative(`${bundler}-${format}`, ['node', `app.${format}`]);
  });

  it('leaves it out', async () => {
    await works(node(['webpack.cjs', bundler, 'mjs', 'external']));
    await expectExternal(`${bundler}-mjs/app.mjs`);
  });

  it('fails with a sentence without a loader', () =>
    failsInWords(node(['webpack.cjs', bundler, 'cjs', 'none']), /You may need an appropriate loader/));
});

describe('rollup', () => {
  const rollup = (env = {}) => tool('rollup', ['-c', 'rollup.config.mjs'], env);

  it('leaves it out', async () => {
    await works(rollup({ EXTERNAL: '1' }));
    await expectExternal('rollup/app.mjs');
  });

  it('fails with a sentence where it should bundle it', () =>
    failsInWords(rollup(), /you need plugins to import files that are not JavaScript|Unexpected character/));
});

describe('Vite SSR', () => {
  const vite = (env = {}) => tool('vite', ['build'], env);

  it('leaves it out, by default', async () => {
    await works(vite({ EXTERNAL: '1' }));
    await expectExternal('vite/app.mjs');
  });

  it('fails with a sentence with noExternal', () => failsInWords(vite(), /PARSE_ERROR|not valid UTF-8/i));
});

describe('@vercel/nft', () => {
  it('finds every file that is needed', async () => {
    await works(node(['nft.mjs']));
    await expectNative('nft', ['node', 'app.cjs']);
  });
});

describe('ncc', () => {
  it.each(['cjs', 'mjs'])('bundles app.%s, as it is', async (format) => {
    await works(tool('ncc', ['build', `app.${format}`, '-o', `out/ncc-${format}`]));
    await expectNative(`ncc-${format}`, ['node', `index.${format}`]);
  });
});

describe.skipIf(process.platform !== 'linux')("Node's single executable", () => {
  it('finds the addon beside it, and its workers inside', async () => {
    const out = join(project, 'out', 'single');
    const options = ['--bundle', '--platform=node', '--external:*.node', '--outfile=out/single.js'];
    await works(tool('esbuild', ['single.cjs', ...options]));
    const config = { main: 'out/single.js', output: 'out/single.blob', disableExperimentalSEAWarning: true };
    writeFileSync(join(project, 'single.json'), JSON.stringify(config));
    await works(node(['--experimental-sea-config', 'single.json']));
    mkdirSync(out);
    writeFileSync(join(out, 'app'), readFileSync(process.execPath), { mode: 0o755 });
    cpSync(addon, join(out, 'sgemoe.node'));
    const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
    const args = [join(out, 'app'), 'NODE_SEA_BLOB', 'out/single.blob', '--sentinel-fuse', fuse];
    await works(tool('postject', args));
    await expectNative('single', [join(folder, 'moved', 'single', 'app')]);
  });
});

describe.each(['--turbopack', '--webpack'])('Next.js standalone, %s', (bundler) => {
  let app: string;
  beforeAll(async () => {
    app = await projectWith(`next${bundler}`, ['next@16', 'react@19', 'react-dom@19'], NEXT);
  }, 10 * MINUTES);

  const build = (env: Record<string, string> = {}) =>
    run(join(app, 'node_modules', '.bin', 'next'), ['build', bundler], app, {
      NEXT_TELEMETRY_DISABLED: '1',
      NODE_ENV: 'production',
      ...env,
    });

  it('takes it along as an external package', async () => {
    await works(build({ EXTERNAL: '1' }));
    const home = join(folder, 'moved', `next${bundler}`);
    cpSync(join(app, '.next', 'standalone'), home, { recursive: true, verbatimSymlinks: true });
    const outcome = await askServer(home);
    expect(outcome).toMatchObject({ tokens: 3 });
    expect(outcome.backend).not.toBe('reference');
    expect(outcome.addonPath.startsWith(realpathSync(home)), outcome.addonPath).toBe(true);
  });

  it('fails with a sentence where it should bundle it', () =>
    failsInWords(build(), /non-ecmascript placeable asset|You may need an appropriate loader/));
});

interface Answer {
  backend: string;
  addonPath: string;
  tokens: number;
}

/** What the route of a standalone server answers. */
async function askServer(home: string): Promise<Answer> {
  const port = await freePort();
  const env = { ...process.env, PORT: String(port), HOSTNAME: '127.0.0.1' };
  const server = spawn(process.execPath, ['server.js'], {
    cwd: home,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(server, 'exit');
  try {
    const ready = new Promise<void>((done) => {
      server.stdout.on('data', (text) => {
        if (String(text).includes('Ready')) done();
      });
    });
    await Promise.race([ready, ended]);
    return (await (await fetch(`http://127.0.0.1:${port}/api`)).json()) as Answer;
  } finally {
    server.kill();
    await ended;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
