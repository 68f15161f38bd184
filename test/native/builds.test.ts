/** CMakeLists.txt, binding.gyp and scripts/prebuild.js build the same addon: the same sources with the same flags. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../backend/child';

const cmake = readFileSync(join(ROOT, 'CMakeLists.txt'), 'utf8').replace(/#.*/g, '');
const gyp = readFileSync(join(ROOT, 'binding.gyp'), 'utf8').replace(/^\s*#.*/gm, '');

/** The words of `set(NAME words)`, without quotes. */
function cmakeSet(name: string): string[] {
  const found = new RegExp(`^ *set\\(${name} ([^)]*)\\)`, 'm').exec(cmake);
  return found![1].replaceAll('"', '').split(/\s+/).filter(Boolean);
}

/** The words of `command(words)`, of every such command. */
function cmakeWords(command: string): string[] {
  return [...cmake.matchAll(new RegExp(`${command} ([^)]*)\\)`, 'g'))].flatMap(([, list]) =>
    list.split(/\s+/),
  );
}

/** The strings of `'name': [strings]`. */
function gypList(name: string, source = gyp): string[] {
  const found = new RegExp(`'${name}': \\[([^\\]]*)\\]`).exec(source);
  return [...found![1].matchAll(/'([^']*)'/g)].map(([, word]) => word);
}

const gypTarget = (name: string): string => gyp.slice(gyp.indexOf(`'target_name': '${name}'`));

/** The files that the commands in binding.gyp print. */
const gypSources = [...gyp.matchAll(/"<!@\(node -p \\"(.*?)\\"\)"/g)].map(([, code]) =>
  execFileSync(process.execPath, ['-p', code], { cwd: ROOT, encoding: 'utf8' }).trim().split(' '),
);

/** The files that a pattern of CMake's file(GLOB) takes. */
function globbed(variable: string): string[] {
  return cmakeWords(`file\\(GLOB ${variable} CONFIGURE_DEPENDS`).flatMap((pattern) => {
    const folder = pattern.replace(/\/\*\.cc$/, '');
    return readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith('.cc'))
      .map((name) => `${folder}/${name}`);
  });
}

/** Definitions for the addon's own sources; node-gyp adds NODE_GYP_MODULE_NAME itself. */
function addonDefinitions(): string[] {
  const [, words] = /target_compile_definitions\(sgemoe PRIVATE (NAPI[^)]*)\)/.exec(cmake)!;
  return words.split(/\s+/).filter((word) => !word.startsWith('NODE_GYP_MODULE_NAME'));
}

describe('scripts/prebuild.js', () => {
  it('gives the definitions and flags of CMakeLists.txt', () => {
    const script = ['prebuild.js', 'zig.js']
      .map((name) => readFileSync(join(ROOT, 'scripts', name), 'utf8'))
      .join('');
    const flags = ['WARNINGS', 'OPTIMIZATION', 'MATH_FLAGS', 'FLAGS_avx2', 'FLAGS_avx512'].flatMap(cmakeSet);
    expect(script).toContain(`[...AVX512, '${cmakeSet('FLAGS_avx512vnni')[1]}']`);
    expect(script).toContain(`[...AVX2, '${cmakeSet('FLAGS_avxvnni')[1]}']`);
    expect(script).toContain(`const NEONDOT = ['${cmakeSet('FLAGS_neondot').join("', '")}']`);
    expect(script).toContain(`neoni8mm: [...NEONDOT, '${cmakeSet('FLAGS_neoni8mm')[1]}']`);
    const words = [
      ...flags,
      ...addonDefinitions().map((word) => `-D${word}`),
      '-ffp-contract=off',
      '-Wl,-z,nodelete',
    ];
    expect(words.filter((word) => !script.includes(`'${word}'`))).toEqual([]);
  });
});

describe('CMakeLists.txt and binding.gyp', () => {
  it('compile the same sources for each instruction set', () => {
    expect(globbed('KERNEL_SOURCES').length).toBeGreaterThan(10);
    expect(gypSources[0].sort()).toEqual(globbed('KERNEL_SOURCES').sort());
    const rounded = globbed('KERNEL_SOURCES').filter((path) => path.includes('/stored_rounded'));
    expect(rounded.length).toBeGreaterThan(3);
    expect(gypSources[1].sort()).toEqual(rounded.sort());
    expect(cmake).toContain('file(GLOB ROUNDED_SOURCES CONFIGURE_DEPENDS native/kernels/stored_rounded*.cc)');
  });

  it('compile the same sources once, Accelerate for those who link it', () => {
    const sources = globbed('SOURCES').filter((path) => path !== 'native/blas_accelerate.cc');
    expect(sources.length).toBeGreaterThan(20);
    // random.cc and quantize.cc have their own flags and, with gyp, their own library.
    expect([...gypSources[2], ...gypList('sources', gypTarget('exact'))].sort()).toEqual(sources.sort());
    expect(cmake).toContain('list(APPEND SOURCES native/blas_accelerate.cc)');
    expect(gyp).toContain("'sources': ['native/blas_accelerate.cc']");
  });

  it('give them the same flags', () => {
    expect(gypList('warnings')).toEqual(cmakeSet('WARNINGS'));
    expect(gypList('hot_flags')).toEqual([...cmakeSet('OPTIMIZATION'), ...cmakeSet('MATH_FLAGS')]);
    expect(gypList('avx2_flags')).toEqual(cmakeSet('FLAGS_avx2'));
    expect(gypList('avx512_flags')).toEqual(cmakeSet('FLAGS_avx512'));
    expect(gypList('avx512vnni_flags')).toEqual(['<@(avx512_flags)', cmakeSet('FLAGS_avx512vnni')[1]]);
    expect(gypList('avxvnni_flags')).toEqual(['<@(avx2_flags)', cmakeSet('FLAGS_avxvnni')[1]]);
    expect(gypList('neondot_flags')).toEqual(cmakeSet('FLAGS_neondot'));
    expect(gypList('neoni8mm_flags')).toEqual(['<@(neondot_flags)', cmakeSet('FLAGS_neoni8mm')[1]]);
    expect(cmakeSet('FLAGS_baseline')).toEqual([]);
    expect(cmakeSet('FLAGS_neon')).toEqual([]);
    for (const name of ['random', 'quantize']) {
      expect(cmake).toContain(`native/${name}.cc PROPERTIES COMPILE_OPTIONS "-ffp-contract=off"`);
    }
    expect(gypList('cflags', gypTarget('exact'))).toEqual([...cmakeSet('OPTIMIZATION'), '-ffp-contract=off']);
    expect(gypList('ldflags')).toEqual(['-Wl,-z,nodelete']);
    expect(cmake).toContain('target_link_options(sgemoe PRIVATE -Wl,-z,nodelete)');
  });

  it('give them the same definitions', () => {
    expect(gypList('defines', gypTarget('sgemoe'))).toEqual(addonDefinitions());
  });

  it('build for the same instruction sets', () => {
    const sets = [...gyp.matchAll(/'SGEMOE_ISA=(\w+)'/g)].map(([, name]) => name);
    expect([...new Set(sets)].sort()).toEqual([
      'avx2',
      'avx512',
      'avx512vnni',
      'avxvnni',
      'baseline',
      'neon',
      'neondot',
      'neoni8mm',
    ]);
    for (const name of new Set(sets)) expect(cmake).toContain(`set(FLAGS_${name} `);
  });
});
