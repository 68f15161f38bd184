/** The built package in programs of its users. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ByteTokenizer, byteModel } from './engines';

let project: string;
beforeAll(async () => {
  project = realpathSync(mkdtempSync(join(tmpdir(), 'sgemoe-engine-')));
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(resolve(__dirname, '../..'), join(project, 'node_modules', 'sgemoe'), 'junction');
  await byteModel().save(join(project, 'model'), new ByteTokenizer().files());
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

const BODY = `
  const engine = await Engine.open('model', { maxBatch: 2 });
  const { tokens } = await engine.generate({ prompt: 'hello', maxTokens: 5 });
  console.log(tokens.length);`;

function run(name: string, code: string, flags: string[] = []) {
  writeFileSync(join(project, name), code);
  return new Promise<{ code: number | null; stdout: string; stderr: string }>((done) => {
    const child = spawn(process.execPath, [...flags, name], { cwd: project, timeout: 600_000 });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => (stdout += data));
    child.stderr.on('data', (data) => (stderr += data));
    child.on('close', (code) => done({ code, stdout, stderr }));
  });
}

test('an engine runs in an ES module', async () => {
  const program = `import { Engine } from 'sgemoe';${BODY}\nawait engine.close();`;
  expect(await run('esm.mjs', program)).toMatchObject({ code: 0, stdout: '5\n' });
});

test('an engine runs in a CommonJS module', async () => {
  const program = `const { Engine } = require('sgemoe');(async () => {${BODY}\nawait engine.close(); })();`;
  expect(await run('cjs.cjs', program)).toMatchObject({ code: 0, stdout: '5\n' });
});

test('a program that forgets to close the engine ends all the same', async () => {
  const program = `import { Engine } from 'sgemoe';${BODY}`;
  expect(await run('open.mjs', program)).toMatchObject({ code: 0, stdout: '5\n' });
});

test("an engine runs in a user's own worker", async () => {
  writeFileSync(
    join(project, 'worker.mjs'),
    `import { Engine } from 'sgemoe';${BODY}\nawait engine.close();`,
  );
  const program = "import { Worker } from 'node:worker_threads';\nnew Worker('./worker.mjs');";
  expect(await run('main.mjs', program)).toMatchObject({ code: 0, stdout: '5\n' });
});

test("an engine runs under Node's permission model, with permission to read, to load addons and to start workers", async () => {
  const permission = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
  const flags = [permission, '--allow-fs-read=*', '--allow-addons', '--allow-worker'];
  const program = `import { Engine } from 'sgemoe';${BODY}\nawait engine.close();`;
  expect(await run('permission.mjs', program, flags)).toMatchObject({ code: 0, stdout: '5\n' });
});
