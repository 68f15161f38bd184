/** native/kernels.def, from which the addon's table, declarations and entries come, names what kernels.ts declares. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../backend/child';
import { readContract, readSignatures } from '../backend/conformance/contract';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** The names in lines of this kind. */
function declared(macro: 'SGEMOE_KERNEL' | 'SGEMOE_ENTRY' | 'SGEMOE_OBJECT'): string[] {
  return [...read('native/kernels.def').matchAll(new RegExp(`^${macro}\\(\\w+, (\\w+)`, 'gm'))].map(
    ([, name]) => name,
  );
}

/** Sources and headers under `folder`, with their paths from the root. */
function files(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => `${folder}/${name}`)
    .filter((path) => /\.(cc|h|def|ts)$/.test(path) && !path.startsWith('native/bench/'));
}

describe('native/kernels.def', () => {
  it('has each kernel of src/backend/kernels.ts once, and no other', () => {
    const names = [...declared('SGEMOE_KERNEL'), ...declared('SGEMOE_ENTRY'), ...declared('SGEMOE_OBJECT')];
    expect(names.sort()).toEqual(
      readSignatures()
        .map(({ kernel }) => kernel)
        .sort(),
    );
  });

  it('declares for JavaScript a number where kernels.ts returns one', () => {
    const results = new Map(
      [...read('native/kernels.def').matchAll(/^SGEMOE_(?:KERNEL|ENTRY)\((\w+), (\w+)/gm)].map(
        ([, type, name]) => [name, type],
      ),
    );
    for (const [, name, type] of readContract().matchAll(/^ {2}(\w+)\([^)]*\): (void|number);/gm)) {
      expect(results.get(name) === 'void' ? 'void' : 'number', name).toBe(type);
    }
  });

  it('is the only list of kernels in native/', () => {
    const naming = (name: string): string[] =>
      files('native').filter((path) => new RegExp(`\\b${name}\\b`).test(read(path)));
    for (const name of ['embeddingBackward', 'swigluBackward', 'rmsNormBackward']) {
      expect(
        naming(name).filter((path) => !/^native\/(kernels|addon)\/\w+\.cc$/.test(path)),
        name,
      ).toEqual(['native/kernels.def']);
      expect(naming(name), name).toHaveLength(3);
    }
  });
});

describe('"Adding a kernel" in CONTRIBUTING.md', () => {
  const recipe = /^## Adding a kernel\n([\s\S]*?)^## /m.exec(read('CONTRIBUTING.md'))![1];
  const patterns = [...recipe.matchAll(/`((?:src|native|test)\/[\w./*]+\.(?:cc|h|def|ts))`/g)].map(
    ([, path]) => path,
  );
  const matches = (pattern: string, path: string): boolean =>
    new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '\\w+')}$`).test(path);

  it.each(['gatherRows', 'swigluBackward', 'routeBackward', 'rmsNormForward'])(
    'names the files that know %s',
    (kernel) => {
      const knowing = ['src/backend', 'native', 'test/backend']
        .flatMap(files)
        .filter((path) => read(path).toLowerCase().includes(kernel.toLowerCase()));
      expect(knowing.filter((path) => !patterns.some((pattern) => matches(pattern, path)))).toEqual([]);
      expect(patterns.filter((pattern) => !knowing.some((path) => matches(pattern, path)))).toEqual([]);
    },
  );
});
