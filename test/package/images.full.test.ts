/**
 * The package where there is little but Node: in a root that holds Node, the libraries it names and the program, as in
 * distroless images and in AWS Lambda's /var/task. There is no shell, no /proc, no home, no /tmp; nothing can be written,
 * and nobody runs it. Docker and Lambda themselves aren't at hand here.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { platformName } from '../../src/backend/platform';
import { give, install, isRoot, pack, ROOT, run, succeed, temporaryFolder } from './project';

const MINUTES = 60_000;
/** Lambda takes 250 MB unzipped, Node's own layer not counted; a pruned installation is far below. */
const FUNCTION_LIMIT_BYTES = 10_000_000;

const MAKE_MODEL = `
const { MoETransformer } = require('sgemoe');
MoETransformer.tiny({ seed: 42 }).save('model');
`;

/** A handler as functions have it: what is loaded once serves every event. */
const HANDLER = `
import { backendInfo, ByteTokenizer, Engine, MoETransformer } from 'sgemoe';
const model = await MoETransformer.load(new URL('./model', import.meta.url).pathname);
const engine = await Engine.create(model, new ByteTokenizer(), { maxBatch: 2 });
export async function handler({ prompt }) {
  const { text, usage } = await engine.generate({ prompt, maxTokens: 3, seed: 1 });
  return { text, tokens: usage.completionTokens, info: backendInfo() };
}
export const close = () => engine.close();
`;

const RUNTIME = `
import { writeFileSync } from 'node:fs';
import { close, handler } from './handler.mjs';
const written = ['/var/task/file', '/tmp/file', '/file'].filter((file) => {
  try { writeFileSync(file, ''); return true; } catch { return false; }
});
const answers = [await handler({ prompt: 'a' }), await handler({ prompt: 'a' })];
await close();
console.log(JSON.stringify({ written, answers }));
`;

/** A program as an image has one: it answers a request, here its own, and ends. */
const SERVER = `
import { backendInfo, ByteTokenizer, Engine, MoETransformer, serve } from 'sgemoe';
async function main(): Promise<void> {
  const engine = await Engine.create(MoETransformer.tiny({ seed: 42 }), new ByteTokenizer());
  const server = await serve({ engine, port: 0 });
  const { status } = await fetch(server.url + '/v1/models');
  await server.close();
  await engine.close();
  console.log(JSON.stringify({ status, info: backendInfo() }));
}
main();
`;
const TSCONFIG = {
  compilerOptions: {
    module: 'nodenext',
    target: 'es2022',
    strict: true,
    rootDir: 'src',
    outDir: 'dist',
    types: ['node'],
  },
};

/** Node's program and what its loader opens. */
function copyNode(root: string): void {
  const program = realpathSync(process.execPath);
  const libraries = [...execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)].map(
    ([, path]) => path,
  );
  for (const [from, to] of [[program, '/nodejs/bin/node'], ...libraries.map((path) => [path, path])]) {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    cpSync(realpathSync(from), join(root, to));
  }
}

function bytesIn(folder: string): number {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

describe.skipIf(process.platform !== 'linux' || !isRoot)('a pruned installation', () => {
  let folder: string;
  let root: string;
  let task: string;

  beforeAll(async () => {
    folder = temporaryFolder();
    const project = await install(folder, 'function', await pack(folder), { flags: ['--omit=dev'] });
    await succeed('npx', ['--no-install', 'sgemoe', 'prune'], project);
    for (const [name, text] of Object.entries({ 'handler.mjs': HANDLER, 'runtime.mjs': RUNTIME }))
      writeFileSync(join(project, name), text);
    await succeed('node', ['-e', MAKE_MODEL], project);
    root = join(folder, 'root');
    task = join(root, 'var', 'task');
    copyNode(root);
    cpSync(project, task, { recursive: true, verbatimSymlinks: true });
    give(root, {}, true);
  }, 20 * MINUTES);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(`is at most ${FUNCTION_LIMIT_BYTES} bytes with all it needs`, () => {
    const bytes = bytesIn(join(task, 'node_modules'));
    console.log(`function: ${bytes} bytes in node_modules`);
    expect(bytes).toBeLessThan(FUNCTION_LIMIT_BYTES);
  });

  it('computes natively and serves with workers, where nothing can be written and no shell is', async () => {
    const command = ['--userspec=65534:65534', root, '/nodejs/bin/node', '/var/task/runtime.mjs'];
    const env = { HOME: '', TMPDIR: '/tmp' };
    const { stdout } = await succeed('chroot', command, folder, env);
    const { written, answers } = JSON.parse(stdout);
    expect(written).toEqual([]);
    for (const { tokens, text, info } of answers) {
      expect(tokens).toBe(3);
      expect(text).toBe(answers[0].text);
      expect(info.backend).not.toMatch(/reference|wasm/);
      expect(info.addonPath).toBe(`/var/task/node_modules/sgemoe/prebuilds/${platformName()}/sgemoe.node`);
    }
  });

  it('has no shell there', async () => {
    expect((await run('chroot', [root, '/bin/sh', '-c', 'true'], folder)).code).not.toBe(0);
  });
});

/** Does what a Dockerfile says: each stage is a folder, RUN runs on this machine. Returns the last stage and its CMD. */
async function buildImage(dockerfile: string, context: string, parent: string) {
  const stages = new Map<string, string>();
  let stage = '';
  let workdir = '/';
  let program: string[] = [];
  for (const line of dockerfile.split('\n').filter((text) => text !== '')) {
    const [instruction, ...words] = line.split(' ');
    if (instruction === 'FROM') {
      stage = join(parent, `stage ${stages.size}`);
      stages.set(words[2] ?? 'last', stage);
    } else if (instruction === 'WORKDIR') workdir = words[0];
    else if (instruction === 'COPY') {
      const from = /^--from=(.*)/.exec(words[0])?.[1];
      const origin = from === undefined ? context : stages.get(from)!;
      const sources = words.slice(from === undefined ? 0 : 1, -1);
      for (const source of sources) copyInto(join(origin, source), join(stage, workdir), words.at(-1)!);
    } else if (instruction === 'RUN') await succeed('bash', ['-c', words.join(' ')], join(stage, workdir));
    else if (instruction === 'CMD') program = JSON.parse(words.join(' '));
    else throw new Error(`an instruction that is new here: ${line}`);
  }
  return { root: stage, workdir, program };
}

/** `./` is the folder itself, where a file keeps its name. */
function copyInto(source: string, folder: string, target: string): void {
  const to = target === './' ? join(folder, posix.basename(source)) : join(folder, target);
  cpSync(source, to, { recursive: true, verbatimSymlinks: true });
}

describe.skipIf(process.platform !== 'linux' || !isRoot)('the image of docs/bundling.md', () => {
  let folder: string;
  beforeAll(() => {
    folder = temporaryFolder();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(
    'of three stages serves, read-only, as nobody, with nothing but Node beside',
    async () => {
      const text = readFileSync(join(ROOT, 'docs', 'bundling.md'), 'utf8');
      const [, dockerfile] = /```dockerfile\n([\s\S]*?)```/.exec(text)!;
      const context = await install(folder, 'context', await pack(folder));
      const tools = ['install', '--save-dev', '--prefer-offline', '--no-audit', '--no-fund'];
      await succeed('npm', [...tools, 'typescript@5', '@types/node@20'], context);
      rmSync(join(context, 'node_modules'), { recursive: true });
      mkdirSync(join(context, 'src'));
      writeFileSync(join(context, 'src', 'server.ts'), SERVER);
      writeFileSync(join(context, 'tsconfig.json'), JSON.stringify(TSCONFIG));
      const { root, workdir, program } = await buildImage(dockerfile, context, folder);
      expect(readdirSync(join(root, workdir, 'node_modules'))).not.toContain('typescript');
      copyNode(root);
      give(root, {}, true);
      const command = ['--userspec=65534:65534', root, '/nodejs/bin/node', posix.join(workdir, ...program)];
      const { stdout } = await succeed('chroot', command, folder, { HOME: '' });
      const { status, info } = JSON.parse(stdout);
      expect(status).toBe(200);
      expect(info.addonPath).toBe(`${workdir}/node_modules/sgemoe/prebuilds/${platformName()}/sgemoe.node`);
    },
    20 * MINUTES,
  );
});
