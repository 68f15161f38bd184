/** Reads the documentation for the tests of this folder. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const ROOT = resolve(__dirname, '..', '..');

export interface Page {
  /** Path relative to the root, with '/' between names. */
  path: string;
  text: string;
}

export interface Fence {
  language: string;
  code: string;
  /** Line of the first line of code, from 1. */
  line: number;
}

export function readPage(path: string): Page {
  return { path, text: readFileSync(join(ROOT, path), 'utf8') };
}

/** The pages at the root and in docs/. */
export function readPages(): Page[] {
  const inDocs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name.replaceAll('\\', '/')}`);
  return ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', ...inDocs.sort()].map(readPage);
}

export function fencesOf({ text }: Page): Fence[] {
  const fences: Fence[] = [];
  let open: { language: string; line: number; lines: string[] } | null = null;
  text.split('\n').forEach((line, i) => {
    const mark = /^```(\S*)/.exec(line);
    if (mark === null) open?.lines.push(line);
    else if (open === null) open = { language: mark[1], line: i + 2, lines: [] };
    else {
      fences.push({ language: open.language, code: `${open.lines.join('\n')}\n`, line: open.line });
      open = null;
    }
  });
  return fences;
}

/** The text without fenced blocks. */
export function proseOf({ text }: Page): string {
  return text.replaceAll(/^```[\s\S]*?^```$/gm, '');
}

/** The texts between backticks outside fences. */
export function codeSpansOf(page: Page): string[] {
  return Array.from(proseOf(page).matchAll(/`([^`\n]+)`/g), (match) => match[1]);
}

/** Rows of all tables as cells by their column's heading. */
export function tableRowsOf(page: Page): Record<string, string>[] {
  const rows: Record<string, string>[] = [];
  let headings: string[] | null = null;
  for (const line of proseOf(page).split('\n')) {
    if (!line.startsWith('|')) headings = null;
    else {
      const cells = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
      const inner = cells.slice(1, -1);
      if (headings === null) headings = inner;
      else if (!inner.every((cell) => /^:?-+:?$/.test(cell))) {
        const row: Record<string, string> = {};
        headings.forEach((heading, i) => {
          row[heading] = inner[i] ?? '';
        });
        rows.push(row);
      }
    }
  }
  return rows;
}

/** Targets of the links in the prose. */
export function linksOf(page: Page): string[] {
  return Array.from(proseOf(page).matchAll(/\[[^\]]*\]\(([^)\s]+)\)/g), (match) => match[1]);
}

/** The anchors that GitHub gives the headings of a page. */
export function anchorsOf(page: Page): string[] {
  return Array.from(proseOf(page).matchAll(/^#+ (.+)$/gm), (match) =>
    match[1]
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
