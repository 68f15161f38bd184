/** Links inside the documentation lead somewhere, and the tests that pages refer to exist. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { anchorsOf, linksOf, type Page, proseOf, ROOT, readPage, readPages } from './markdown';

/** The links of a page that lead nowhere. */
function brokenLinks(page: Page): string[] {
  return linksOf(page).filter((link) => {
    if (/^[a-z]+:/.test(link)) return !link.startsWith('https://');
    const [file, anchor] = link.split('#');
    const path = file === '' ? page.path : posix.join(posix.dirname(page.path), file);
    if (!existsSync(join(ROOT, path))) return true;
    return anchor !== undefined && !anchorsOf(readPage(path)).includes(anchor);
  });
}

describe.each(readPages().map((page) => [page.path, page] as const))('%s', (_path, page) => {
  it('links to files and headings that exist', () => {
    expect(brokenLinks(page)).toEqual([]);
  });
});

it('a missing file, a missing heading and another scheme count as broken', () => {
  const links = ['no.md', 'docs/notes.md#nothing', 'http://x.org', '#two-commands', 'docs/notes.md#routing'];
  const text = links.map((link) => `[x](${link})`).join(' ');
  expect(brokenLinks({ path: 'README.md', text: `${text}\n## Two commands` })).toEqual([
    'no.md',
    'docs/notes.md#nothing',
    'http://x.org',
  ]);
});

/** What the "Check" section of a derivation puts in quotation marks. */
function quotedTests(page: Page): string[] {
  const check = proseOf(page).split('\n## Check\n')[1] ?? '';
  return Array.from(check.matchAll(/"([^"]+)"/g), (match) => match[1].replaceAll(/\s+/g, ' '));
}

describe('the derivations', () => {
  const pages = readPages().filter(({ path }) => /^docs\/gradients\/[a-z]/.test(path));
  const index = readPage('docs/gradients/README.md');
  const tests = readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('docs'))
    .map((name) => readFileSync(join(ROOT, 'test', name), 'utf8'))
    .join('\n');

  it('are all in the index', () => {
    expect(
      pages.map(({ path }) => posix.basename(path)).filter((name) => !linksOf(index).includes(name)),
    ).toEqual([]);
  });

  it.each(pages.map((page) => [page.path, page] as const))(
    '%s names a test that checks it',
    (_path, page) => {
      expect(linksOf(page).some((link) => link.startsWith('../../test/'))).toBe(true);
      expect(quotedTests(page).filter((title) => !tests.includes(title))).toEqual([]);
    },
  );
});
