/**
 * Every package manager installs the packed tarball from a registry on loopback into an empty project, in a folder with
 * spaces and letters outside ASCII, as a user who isn't root: the package is native at once, imported, required and
 * compiled against, and goes on working when nothing can be written any more.
 */
import { chmodSync, cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { copyClone, type Ended, give, isRoot, pack, ROOT, run, succeed, temporaryFolder } from './project';
import { packDependency, type Registry, readPackage, startRegistry } from './registry';

const MINUTES = 60_000;

interface Manager {
  name: string;
  /** The package of the manager, and its program below node_modules. */
  from: string;
  program: string;
  /** Arguments that add packages. */
  add: string[];
  /** The command that runs a program of the project, without the program's file. */
  node?: string[];
  env?: Record<string, string>;
  files?: Record<string, string>;
}

const NPM = { program: 'npm/bin/npm-cli.js', add: ['install', '--no-audit', '--no-fund'] };
const PNPM = { program: 'pnpm/bin/pnpm.cjs', add: ['add'] };
const YARN_4 = {
  from: '@yarnpkg/cli-dist@4',
  program: '@yarnpkg/cli-dist/bin/yarn.js',
  add: ['add'],
  files: { 'yarn.lock': '' },
};

const MANAGERS: readonly Manager[] = [
  { name: 'npm 10', from: 'npm@10', ...NPM },
  { name: 'npm 11', from: 'npm@11', ...NPM },
  { name: 'npm 12', from: 'npm@12', ...NPM },
  { name: 'pnpm 10', from: 'pnpm@10', ...PNPM },
  { name: 'pnpm 12', from: 'pnpm@12', ...PNPM, program: 'pnpm/pnpm' },
  { name: 'Yarn 1', from: 'yarn@1', program: 'yarn/bin/yarn.js', add: ['add', '--non-interactive'] },
  { name: 'Yarn 4, node_modules', ...YARN_4, env: { YARN_NODE_LINKER: 'node-modules' } },
  { name: "Yarn 4, Plug'n'Play", ...YARN_4, env: { YARN_NODE_LINKER: 'pnp' }, node: ['node'] },
  { name: 'Bun', from: 'bun@1', program: 'bun/bin/bun.exe', add: ['add'] },
];

const PROBE = `
const { backendInfo, MoETransformer } = sgemoe;
const logits = MoETransformer.tiny({ seed: 42 }).forwardIds([1, 2, 3, 4], 1, 4);
if (!logits.data.every(Number.isFinite)) throw new Error('not finite');
console.log(JSON.stringify(backendInfo()));
`;
const PROGRAMS = {
  'probe.cjs': `const sgemoe = require('sgemoe');${PROBE}`,
  'probe.mjs': `import * as sgemoe from 'sgemoe';${PROBE}`,
  'write.cjs': `require('node:fs').writeFileSync('written', '');`,
};

/** A user who owns nothing, if the tests run as root. */
const NOBODY = isRoot ? { uid: 65534, gid: 65534 } : {};

let folder: string;
let registry: Registry;

beforeAll(async () => {
  folder = temporaryFolder();
  chmodSync(folder, 0o755);
  const { path } = await pack(folder);
  const dependencies = ['@huggingface/jinja', 'commander', 'typescript', '@types/node', 'undici-types'];
  const packed = await Promise.all(dependencies.map((name) => packDependency(name, join(folder, 'packed'))));
  registry = await startRegistry([...packed, readPackage(join(ROOT, 'package.json'), path)]);
}, 20 * MINUTES);
afterAll(() => {
  registry?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Installs the manager from npm. */
async function fetchManager({ name, from, program }: Manager): Promise<string[]> {
  const home = join(folder, 'managers', name);
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, 'package.json'), '{ "private": true }');
  await succeed('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', from], home);
  const file = join(home, 'node_modules', program);
  return /\.c?js$/.test(program) ? ['node', file] : [file];
}

/** A project in which the manager runs as nobody, with a home of its own. */
class Project {
  readonly #manager: Manager;
  readonly #command: string[];
  readonly folder: string;
  readonly #env: Record<string, string>;

  constructor(manager: Manager, command: string[]) {
    this.#manager = manager;
    this.#command = command;
    const parent = join(folder, `größe 大 ${manager.name.replace(/\W+/g, ' ')}`);
    this.folder = join(parent, 'project');
    const home = join(parent, 'home');
    for (const path of [this.folder, home]) mkdirSync(path, { recursive: true });
    const files = {
      'package.json': '{ "name": "consumer", "private": true }',
      '.npmrc': `registry=${registry.url}\n`,
      ...PROGRAMS,
      ...manager.files,
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.folder, name), text);
    this.#env = {
      HOME: home,
      CI: 'true',
      npm_config_registry: registry.url,
      npm_config_cache: join(home, 'cache'),
      YARN_NPM_REGISTRY_SERVER: registry.url,
      YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
      YARN_ENABLE_TELEMETRY: 'false',
      YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
      YARN_ENABLE_GLOBAL_CACHE: 'false',
      BUN_CONFIG_REGISTRY: registry.url,
      ...manager.env,
    };
    for (const path of [parent, this.folder, home]) give(path, NOBODY);
  }

  add(...packages: string[]): Promise<Ended> {
    return this.#run([...this.#command, ...this.#manager.add, ...packages]);
  }

  /** A program of the project, as its manager runs one. */
  async node(...args: string[]): Promise<string> {
    const { node = null } = this.#manager;
    const before = node === null ? ['node'] : [...this.#command, ...node];
    const ended = await this.#run([...before, ...args]);
    expect(ended.code, `${args.join(' ')}\n${ended.stdout}\n${ended.stderr}`).toBe(0);
    return ended.stdout;
  }

  /** Makes everything read-only. */
  makeReadOnly(): void {
    give(this.folder, isRoot ? { uid: 0, gid: 0 } : {}, true);
  }

  #run([command, ...args]: string[]): Promise<Ended> {
    return run(command, args, this.folder, this.#env, NOBODY);
  }
}

function expectNative(stdout: string, place: RegExp): void {
  const info = JSON.parse(stdout);
  expect(info.backend).not.toBe('reference');
  expect(info.addonPath).toMatch(place);
}

/** The consumer of the slow tests, which uses types, workers and the server: as a module of both kinds. */
async function compileConsumer(project: Project): Promise<void> {
  const sources = ['consumer.mts', 'consumer.cts'];
  for (const name of sources) cpSync(join(__dirname, 'consumer.txt'), join(project.folder, name));
  const compilerOptions = { module: 'nodenext', target: 'es2022', strict: true, types: ['node'] };
  writeFileSync(join(project.folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: sources }));
  writeFileSync(join(project.folder, 'compile.cjs'), `require('typescript/lib/tsc.js');`);
  await project.node('compile.cjs', '-p', 'tsconfig.json');
}

describe.skipIf(process.platform !== 'linux')('the package, installed by', () => {
  it.each(MANAGERS.map((manager) => [manager.name, manager] as const))(
    '%s',
    async (_name, manager) => {
      const project = new Project(manager, await fetchManager(manager));
      const installed = await project.add('sgemoe', 'typescript@5', '@types/node@20');
      expect(installed.code, `${installed.stdout}\n${installed.stderr}`).toBe(0);
      await compileConsumer(project);
      project.makeReadOnly();
      const written = run('node', ['write.cjs'], project.folder, {}, NOBODY);
      expect((await written).code, 'the project is read-only').toBe(1);
      const place = /[\\/]sgemoe[\\/]prebuilds[\\/][\w-]+[\\/]sgemoe\.node$/;
      for (const probe of ['probe.cjs', 'probe.mjs']) expectNative(await project.node(probe), place);
      for (const consumer of ['consumer.cjs', 'consumer.mjs'])
        expect(await project.node(consumer)).toBe('ok\n');
    },
    20 * MINUTES,
  );
});

describe('a clone', () => {
  it(
    "gets the native backend by npm 12's npm ci, and with --omit=dev exit code 0",
    async () => {
      const npm = MANAGERS.find(({ name }) => name === 'npm 12') as Manager;
      const [command, ...before] = await fetchManager(npm);
      const clone = copyClone(join(folder, 'managers'));
      const args = [...before, 'ci', '--no-audit', '--no-fund', '--prefer-offline'];
      await succeed(command, [...args, '--omit=dev'], clone);
      await succeed(command, args, clone);
      const { stdout } = await succeed('node', ['dist/cli/main.js', 'info', '--json'], clone, {
        SGEMOE_BACKEND: 'builtin',
      });
      expectNative(stdout, /[\\/]build[\\/]Release[\\/]sgemoe\.node$/);
    },
    60 * MINUTES,
  );
});
