/** Codes, variables, commands and options that the documentation names exist, and those that exist are documented. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERROR_CODES } from '../../src/base/errors';
import { codeSpansOf, fencesOf, ROOT, readPage, readPages, tableRowsOf } from './markdown';

const readme = readPage('README.md');
const pages = readPages();

function sources(folder: string, ending: string): string {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => readFileSync(join(ROOT, folder, name), 'utf8'))
    .join('\n');
}

/** The code spans in one column of all tables of a page. */
function namesInColumn(path: string, heading: string): string[] {
  const cells = tableRowsOf(readPage(path)).map((row) => row[heading] ?? '');
  return cells.flatMap((cell) => Array.from(cell.matchAll(/`(SGEMOE_\w+)`/g), (match) => match[1]));
}

const sorted = (names: Iterable<string>) => [...new Set(names)].sort();
const typescript = sources('src', '.ts');
const warningCodes = Array.from(typescript.matchAll(/warnOnce\(\s*'(SGEMOE_\w+)'/g), (match) => match[1]);

describe('codes', () => {
  it('docs/errors.md lists the error and warning codes, and no others', () => {
    expect(warningCodes.length).toBeGreaterThan(0);
    const existing = [...Object.keys(ERROR_CODES), ...warningCodes];
    expect(sorted(namesInColumn('docs/errors.md', 'Code'))).toEqual(sorted(existing));
  });
});

describe('environment variables', () => {
  it('the README lists those that sources read, and no others', () => {
    const read = [
      ...typescript.matchAll(/(?:variable\('|env\.)(SGEMOE_\w+)/g),
      ...sources('scripts', '.js').matchAll(/env\.(SGEMOE_\w+)/g),
      ...sources('native', '.cc').matchAll(/getenv\("(SGEMOE_\w+)"\)/g),
    ].map((match) => match[1]);
    expect(sorted(namesInColumn('README.md', 'Variable'))).toEqual(sorted(read));
  });
});

describe('commands', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const code = pages.flatMap((page) => [...codeSpansOf(page), ...fencesOf(page).map((fence) => fence.code)]);

  it('every `npm run` is a script of package.json', () => {
    const run = code.flatMap((text) => Array.from(text.matchAll(/npm run ([\w:]+)/g), (match) => match[1]));
    expect(run.length).toBeGreaterThan(0);
    expect(sorted(run).filter((name) => !(name in scripts))).toEqual([]);
  });

  it('the README names the two commands', () => {
    const shell = fencesOf(readme).filter(({ language }) => language === 'sh');
    expect(shell.map((fence) => fence.code)).toContain('npm ci && npm run demo\nnpm ci && npm test\n');
  });

  it('every option after `sgemoe` is in the help of that command', () => {
    const help = new Map<string, string>();
    const helpOf = (command: string) => {
      const args = [join(ROOT, 'dist', 'cli', 'main.js'), ...command.split(' '), '--help'];
      if (!help.has(command)) help.set(command, execFileSync(process.execPath, args, { encoding: 'utf8' }));
      return help.get(command)!;
    };
    const unknown: string[] = [];
    let options = 0;
    for (const line of code.flatMap((text) => text.split('\n'))) {
      const [, command, rest] = /^sgemoe (\w+(?: train| prepare)?)\b(.*)$/.exec(line) ?? [];
      for (const [option] of (rest ?? '').matchAll(/--[a-z][a-z-]*/g)) {
        options++;
        if (!new RegExp(`^ .*${option}\\b(?!-)`, 'm').test(helpOf(command))) unknown.push(line);
      }
    }
    expect(options).toBeGreaterThan(5);
    expect(unknown).toEqual([]);
  });
});
