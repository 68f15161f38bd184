/** An architecture is one file, a line of the registry, a fixture: the recipe in CONTRIBUTING.md. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ARCHITECTURES, classNameOf, definitionOf, OWN_KEYS } from '../../src/hf/architectures';

const ROOT = resolve(__dirname, '../..');
const FOLDER = 'src/hf/architectures';
const PLACEHOLDER = '<model_type>';
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

/** Paths in backticks of the recipe. */
function recipe(): string[] {
  const [, section] = /^## Adding an architecture\n([\s\S]*?)^## /m.exec(read('CONTRIBUTING.md'))!;
  return [...section.matchAll(/`([\w./<>-]+\/[\w./<>-]+)`/g)].map(([, path]) => path);
}

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`);
}

/** GGUF has names of its own for architectures and their tokenizers. */
const GGUF = 'src/checkpoint/gguf/';

describe('an architecture', () => {
  test('has one file, named as its model_type', () => {
    const files = readdirSync(join(ROOT, FOLDER)).sort();
    expect(files).toEqual([...ARCHITECTURES.map((name) => `${name}.ts`), 'index.ts'].sort());
  });

  test('is named by no other source, so that nothing else depends on which it is', () => {
    const names = ARCHITECTURES.flatMap((name) => [name, classNameOf(name)]).join('|');
    const named = new RegExp(`['"\`](?:${names})['"\`]|\\b(?:${names})\\b(?= *[:=?])`);
    const naming = sources('src').filter((path) => !path.startsWith(GGUF) && named.test(read(path)));
    expect(named.test(read(`${GGUF}architectures.ts`))).toBe(true);
    expect(naming.sort()).toEqual(ARCHITECTURES.map((name) => `${FOLDER}/${name}.ts`).sort());
  });

  test.each(ARCHITECTURES)(
    '%s: every file of the recipe in CONTRIBUTING.md is there and holds it',
    (name) => {
      const paths = recipe();
      expect(paths).toContain(`${FOLDER}/${PLACEHOLDER}.ts`);
      expect(paths).toContain(`${FOLDER}/index.ts`);
      expect(paths).toContain(`test/fixtures/hf/${PLACEHOLDER}/`);
      for (const path of paths) {
        expect(existsSync(join(ROOT, path.replace(PLACEHOLDER, name))), path).toBe(true);
        const shared = !path.includes(PLACEHOLDER);
        if (shared) expect(read(path), path).toMatch(new RegExp(`\\b(?:${name}|${classNameOf(name)})\\b`));
      }
      for (const file of ['config.json', 'config.v4.json', 'expected.json', 'expected.safetensors']) {
        expect(existsSync(join(ROOT, 'test/fixtures/hf', name, file)), file).toBe(true);
      }
    },
  );

  test('refuses what only others obey: a key has one harmless value, whoever obeys it', () => {
    for (const name of ARCHITECTURES) {
      for (const [key, harmless] of Object.entries(definitionOf(name).ownKeys)) {
        expect(OWN_KEYS.get(key), `${key} of ${name}`).toBe(harmless);
      }
    }
  });
});
