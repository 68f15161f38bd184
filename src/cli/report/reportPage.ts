import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageVersion } from '../../base/version';
import { pageFiles } from '../../serve/http/pageFiles';
import { chartLibrary } from './chartLibrary';
import type { RunReport } from './reportData';

/** Marks a file as a report, which may be replaced. */
export const GENERATOR = '<meta name="generator" content="sgemoe report">';

const ASSETS = join(__dirname, 'assets');
const SCRIPTS = ['format.js', 'tables.js', 'charts.js', 'heatMap.js', 'samples.js', 'main.js'];

/**
 * The page of some runs: one file that loads nothing. The content of runs is only data: a JSON block with escaped '<' holds
 * it, and it reaches the page as text. A content security policy lets only the page's own scripts run.
 */
export function renderReport(runs: readonly RunReport[]): string {
  const { script, style, licence } = chartLibrary();
  const styles = [style, pageFiles()['base.css'], asset('page.css')];
  const scripts = [`/*\nuPlot\n\n${licence}*/\n${script}`, `(() => {\n'use strict';\n${ownScript()}})();`];
  const policy = [
    "default-src 'none'",
    `script-src ${scripts.map(hashOf).join(' ')}`,
    `style-src ${styles.map(hashOf).join(' ')}`,
  ];
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    GENERATOR,
    `<meta http-equiv="Content-Security-Policy" content="${policy.join('; ')}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<title>sgemoe report</title>',
    ...styles.map((text) => `<style>${text}</style>`),
    '</head>',
    '<body>',
    '<noscript>This report draws its charts with JavaScript, which is switched off.</noscript>',
    '<main id="report"></main>',
    `<script type="application/json" id="data">${jsonBlock({ version: packageVersion(), runs })}</script>`,
    ...scripts.map((text) => `<script>${text}</script>`),
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

/** JSON that can neither end its script element nor begin a comment. */
function jsonBlock(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

function asset(name: string): string {
  return readFileSync(join(ASSETS, name), 'utf8');
}

function ownScript(): string {
  return SCRIPTS.map(asset).join('\n');
}
