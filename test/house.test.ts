import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const SRC = resolve(__dirname, '../src');

/** Layers from the bottom up; an import may point within a layer or down, never up. */
const LAYERS: readonly (readonly string[])[] = [
  ['errors', 'dtype', 'random', 'batch', 'checks', 'readOnly'],
  ['backend'],
  ['config', 'weight', 'parameters', 'workspace', 'tensor'],
  ['layers', 'sharedModel', 'queryKeyNorm', 'keyValueCache', 'memory'],
  ['attention', 'sharedExpert'],
  ['moe'],
  ['pass'],
  ['assemble'],
  ['sampling'],
  ['checkpoint', 'generate', 'decode'],
  ['hf'],
  ['model'],
  ['convert', 'text', 'trainConfig', 'earlyStopping'],
  ['schedule', 'optimizer'],
  ['train'],
  ['resume', 'evaluateText'],
  ['serve'],
  ['index'],
  ['cli'],
];

/** Imports that point down and still are none of the importer's business. */
const FORBIDDEN: Record<string, readonly string[]> = {
  // They see interfaces (named tensors, next-token logits), never the model.
  checkpoint: ['backend', 'config', 'parameters', 'workspace', 'tensor', 'layers', 'attention', 'moe'],
  generate: [
    'backend',
    'config',
    'parameters',
    'workspace',
    'tensor',
    'layers',
    'attention',
    'moe',
    'checkpoint',
  ],
  text: ['layers', 'attention', 'moe', 'model', 'train'],
  train: ['text', 'checkpoint'],
};

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, module: moduleOf(join(SRC, name)), text: readFileSync(join(SRC, name), 'utf8') }));

/** The top-level name below src/ that a path belongs to: 'backend', 'tensor', 'cli', ... */
function moduleOf(path: string): string {
  return relative(SRC, path).split(/[\\/]/)[0].replace(/\.ts$/, '');
}

function importsOf(file: { name: string; text: string }): string[] {
  const specifiers = [...file.text.matchAll(/(?:from|import|require\()\s*'(\.[^']*)'/g)].map(
    (match) => match[1],
  );
  return specifiers.map((specifier) => moduleOf(resolve(SRC, dirname(file.name), specifier)));
}

const rankOf = (module: string) => LAYERS.findIndex((layer) => layer.includes(module));

describe('the house', () => {
  test('every source belongs to a layer', () => {
    for (const { name, module } of files) expect(rankOf(module), name).toBeGreaterThanOrEqual(0);
  });

  test('imports only point down', () => {
    expect(importsOf(files.find(({ name }) => name === 'model.ts')!)).toContain('moe');
    for (const file of files) {
      for (const target of importsOf(file)) {
        expect(rankOf(target), `${file.name} imports ${target}`).toBeLessThanOrEqual(rankOf(file.module));
        expect(FORBIDDEN[file.module] ?? [], `${file.name} imports ${target}`).not.toContain(target);
      }
    }
  });

  test('only the loader knows the addon', () => {
    const knowing = files.filter(({ text }) => /\.node['"`]|process\.dlopen|napi/.test(text));
    expect(knowing.map(({ name }) => name)).toEqual(['backend/native.ts']);
  });

  test('only the command line prints, and no file below serve/ starts a worker or opens a socket', () => {
    for (const { name, module, text } of files) {
      if (module === 'cli') continue;
      expect(text, name).not.toMatch(/console\.|process\.std(out|err)/);
      if (module === 'serve') continue;
      expect(text, name).not.toMatch(/node:(worker_threads|net|http|https|child_process|cluster)'/);
    }
  });

  test('sources stay below 500 lines', () => {
    const tops = ['src', 'native', 'bench', 'scripts'].map((name) => resolve(__dirname, '..', name));
    for (const top of tops) {
      for (const name of readdirSync(top, { recursive: true, encoding: 'utf8' })) {
        if (!/\.(ts|js|cc|h)$/.test(name)) continue;
        const lines = readFileSync(join(top, name), 'utf8').split('\n').length;
        expect(lines, `${name} has ${lines} lines`).toBeLessThanOrEqual(501);
      }
    }
  });
});
