import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const SRC = resolve(__dirname, '../src');

const DOWN_TO_TEXT = [
  'base',
  'config',
  'backend',
  'checkpoint',
  'memory',
  'tensor',
  'sampling',
  'hf',
] as const;

/** The rooms of src/, from the bottom up, and the rooms that each may import from. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  base: [],
  config: ['base'],
  backend: ['base'],
  checkpoint: ['base'],
  memory: ['base', 'config', 'backend'],
  tensor: ['base', 'backend'],
  sampling: ['base', 'backend'],
  text: ['base', 'config', 'checkpoint'],
  hf: ['base', 'config', 'checkpoint'],
  model: DOWN_TO_TEXT,
  training: [...DOWN_TO_TEXT, 'text', 'model'],
  serve: [...DOWN_TO_TEXT, 'text', 'model'],
  cli: [...DOWN_TO_TEXT, 'text', 'model', 'training', 'serve'],
};

/** Files that stand alone in the root: what users import. */
const ENTRIES = ['ai.ts', 'index.ts', 'web.ts'];

interface Source {
  /** Path below src/, with '/'. */
  name: string;
  room: string;
  text: string;
  /** Files below src/ that it imports, types included. */
  imports: string[];
}

const files: Source[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((path) => {
    const name = path.replaceAll('\\', '/');
    const text = readFileSync(join(SRC, path), 'utf8');
    return { name, room: name.split('/')[0], text, imports: importsOf(name, text) };
  });
const names = new Set(files.map(({ name }) => name));

function importsOf(name: string, text: string): string[] {
  return [...text.matchAll(/(?:from|import|import\(|require\()\s*'(\.[^']*)'/g)].map(([, specifier]) =>
    relative(SRC, resolve(SRC, dirname(name), specifier)).replaceAll('\\', '/'),
  );
}

/** The file that an import means; undefined for a script of a page. */
function fileOf(target: string): string | undefined {
  return [`${target}.ts`, `${target}/index.ts`].find((name) => names.has(name));
}

/** The first circle of imports that is reached, as its files in order; null when there is none. */
function findCircle(): string[] | null {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (name: string): string[] | null => {
    if (done.has(name)) return null;
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name];
    path.push(name);
    for (const target of files.find((file) => file.name === name)!.imports) {
      const next = fileOf(target);
      const circle = next === undefined ? null : visit(next);
      if (circle) return circle;
    }
    path.pop();
    done.add(name);
    return null;
  };
  for (const { name } of files) {
    const circle = visit(name);
    if (circle) return circle;
  }
  return null;
}

describe('the house', () => {
  test('every source has a room; only the entries stand in the root', () => {
    const loose = files.filter(({ name }) => !name.includes('/')).map(({ name }) => name);
    expect(loose).toEqual(ENTRIES);
    const rooms = new Set(files.filter(({ name }) => name.includes('/')).map(({ room }) => room));
    expect([...rooms].sort()).toEqual(Object.keys(MAY_IMPORT).sort());
  });

  test('imports go only where the plan lets them', () => {
    expect(files.find(({ name }) => name === 'model/model.ts')!.imports).toContain('model/block');
    const astray: string[] = [];
    for (const { name, room, imports } of files) {
      if (ENTRIES.includes(name)) continue;
      for (const target of imports) {
        if (target === '../package.json') continue; // the version
        if (name === 'backend/native.ts' && target.startsWith('../prebuilds/')) continue; // the addon
        const to = target.split('/')[0];
        if (to !== room && !MAY_IMPORT[room].includes(to)) astray.push(`${name} imports ${target}`);
      }
    }
    expect(astray).toEqual([]);
  });

  test('no two files import each other, however far around', () => {
    expect(findCircle()).toBeNull();
  });

  test('only the loader knows the addon', () => {
    const knowing = files.filter(({ text }) => /\.node['"`]|process\.dlopen|\bnapi/.test(text));
    expect(knowing.map(({ name }) => name)).toEqual(['backend/native.ts']);
  });

  test('only the command line prints, no file below serve/ starts a worker or a server, and only hf/hub asks other hosts', () => {
    for (const { name, room, text } of files) {
      if (room === 'cli') continue;
      expect(text, name).not.toMatch(/console\.|process\.std(out|err)/);
      if (room === 'serve') continue;
      // JavaScript starts the pool of WebAssembly; C++ starts the addon's.
      const rest = name === 'backend/wasm.ts' ? text.replaceAll("'node:worker_threads'", '') : text;
      expect(rest, name).not.toMatch(/node:(worker_threads|net|http|https|child_process|cluster)'/);
      const isForBrowsers = name === 'web.ts' || name === 'backend/browser.ts';
      if (name !== 'hf/hub/requests.ts' && !isForBrowsers) expect(text, name).not.toMatch(/\bfetch\(/);
    }
  });

  test('sources stay below 500 lines', () => {
    const tops = ['src', 'native', 'bench', 'scripts'].map((name) => resolve(__dirname, '..', name));
    for (const top of tops) {
      for (const name of readdirSync(top, { recursive: true, encoding: 'utf8' })) {
        if (!/\.(ts|js|cc|h|def)$/.test(name)) continue;
        const lines = readFileSync(join(top, name), 'utf8').split('\n').length;
        expect(lines, `${name} has ${lines} lines`).toBeLessThanOrEqual(501);
      }
    }
  });
});
