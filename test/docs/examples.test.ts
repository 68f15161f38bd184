/**
 * The examples of the documentation run as they are written, in an empty project where `sgemoe` is this repository's
 * built package. A line `console.log(...); // -> text` must print that text.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Fence, fencesOf, ROOT, readPages } from './markdown';

interface Example extends Fence {
  /** 'README.md:59' */
  where: string;
}

const examples: Example[] = readPages().flatMap((page) =>
  fencesOf(page).map((fence) => ({ ...fence, where: `${page.path}:${fence.line}` })),
);
const programs = examples.filter(({ language }) => ['ts', 'js'].includes(language));
const isServer = ({ code }: Example) => code.includes('createServer(');

let project: string;

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), 'sgemoe-docs-'));
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(ROOT, join(project, 'node_modules', 'sgemoe'), 'junction');
  for (const name of ['ai', 'fastify', 'openai', 'zod']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(project, 'node_modules', name), 'junction');
  }
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

describe('program examples', () => {
  it('exist in TypeScript, in JavaScript and in CommonJS', () => {
    expect(programs.some(({ language }) => language === 'ts')).toBe(true);
    expect(programs.some(({ code }) => code.includes("require('sgemoe')"))).toBe(true);
    expect(programs.some(isServer)).toBe(true);
  });

  it('in TypeScript pass the type check of a strict project', () => {
    const sources = programs.filter(({ language }) => language === 'ts').map(({ code }) => code);
    // The last one shows that the check can fail.
    sources.push("import { MoETransformer } from 'sgemoe';\nMoETransformer.tiny({ sed: 1 });\n");
    const files = sources.map((code, i) => {
      const file = join(project, `example${i}.mts`);
      writeFileSync(file, code);
      return file;
    });
    expect(typeErrors(files)).toEqual([expect.stringMatching(`example${files.length - 1}\\.mts:2 .*'sed'`)]);
  });

  it.each(
    programs.filter((example) => !isServer(example)).map((example) => [example.where, example] as const),
  )('%s runs and prints what it says', async (_where, example) => {
    const { code, stdout, stderr } = await run([writeProgram(example)]).ended;
    expect(code, stderr).toBe(0);
    expect(inOrder(promised(example), stdout.split('\n')), stdout).toBe(true);
  });
});

describe('the command line and the service, one after the other', () => {
  const lines = examples
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code }) => code.replace(/ \\\n\s*/g, ' ').split('\n'))
    .filter((line) => line.startsWith('sgemoe '));

  beforeAll(() => {
    const text = 'Once upon a time there was a short text. '.repeat(60);
    mkdirSync(join(project, 'notes'));
    for (const name of ['book.txt', 'more.txt', 'tinyshakespeare.txt', 'notes/one.txt'])
      writeFileSync(join(project, name), text);
  });

  it('every command succeeds', async () => {
    expect(lines.map((line) => line.split(' ')[1])).toEqual(
      expect.arrayContaining(['info', 'train', 'generate']),
    );
    for (const line of lines) {
      const args = wordsOf(line).slice(1);
      const shorter = args.includes('--help') ? [] : (SHORTER[args[0]] ?? []);
      const running = run([join(ROOT, 'dist', 'cli', 'main.js'), ...args, ...shorter]);
      if (args[0] === 'serve') await running.firstLine.then(() => running.child.kill('SIGTERM'));
      const { code, stderr } = await running.ended;
      expect(code, `${line}\n${stderr}`).toBe(0);
    }
  });

  it('the service streams from the trained model, to two clients at once, and survives one that leaves', async () => {
    const server = run([writeProgram(programs.find(isServer)!)], { PORT: '0' });
    try {
      const port = await server.firstLine.then((line) => /\d+/.exec(line)![0]);
      const url = urlOf(examples).replace('8080', port);
      const leaving = new AbortController();
      const left = await fetch(url, { signal: leaving.signal });
      leaving.abort();
      await left.body?.cancel().catch(() => undefined);
      const sizes = await Promise.all(
        [url, url].map(async (each) => (await (await fetch(each)).arrayBuffer()).byteLength),
      );
      expect(sizes).toEqual([200, 200]);
    } finally {
      server.child.kill();
      await server.ended;
    }
  });
});

/** Options appended to the documented ones; of equal options the last counts. */
const SHORTER: Record<string, string[]> = {
  tokenizer: ['--vocab-size', '280'],
  train: ['--steps', '2', '--batch-size', '2', '--seq-len', '16', '--sample-tokens', '5', '--layers', '1'],
  generate: ['--max-tokens', '5'],
  serve: ['--host', '127.0.0.1', '--port', '0'],
};

function urlOf(all: Example[]): string {
  return all
    .map(({ code }) => /"(http:\/\/localhost:8080[^"]*)"/.exec(code)?.[1])
    .find((url) => url !== undefined)!;
}

function wordsOf(line: string): string[] {
  return Array.from(line.matchAll(/"([^"]*)"|(\S+)/g), (match) => match[1] ?? match[2]);
}

/** Writes an example as a program that Node runs: types removed, the kind of module seen from its import. */
function writeProgram({ code, language, line }: Example): string {
  const commonJs = code.includes('require(');
  const file = join(project, `run${line}.${commonJs ? 'cjs' : 'mjs'}`);
  const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
  const text = language === 'ts' ? ts.transpileModule(code, { compilerOptions: options }).outputText : code;
  writeFileSync(file, text);
  return file;
}

/** The texts after '// -> ' of a console.log. */
function promised({ code }: Example): string[] {
  return Array.from(code.matchAll(/console\.log\(.*; \/\/ -> (.+)$/gm), (match) => match[1]);
}

function inOrder(wanted: string[], lines: string[]): boolean {
  let at = 0;
  for (const line of lines) if (line === wanted[at]) at++;
  return at === wanted.length;
}

function typeErrors(files: string[]): string[] {
  const program = ts.createProgram(files, {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules', '@types')],
  });
  return ts.getPreEmitDiagnostics(program).map(({ messageText, file, start }) => {
    const line = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line + 1 : 0;
    return `${file?.fileName}:${line} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
}

interface Running {
  child: ChildProcess;
  firstLine: Promise<string>;
  ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

function run(args: string[], env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, args, { cwd: project, env: { ...process.env, ...env } });
  let stdout = '';
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const firstLine = new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      if (stdout.includes('\n')) resolve(stdout.split('\n')[0]);
    });
    child.once('close', () => reject(new Error(`ended without a line: ${stderr}`)));
  });
  firstLine.catch(() => undefined);
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, firstLine, ended };
}
