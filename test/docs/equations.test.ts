/** The tables from equations to code name files and symbols that exist. */
import { posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Page, readPage, tableRowsOf } from './markdown';
import { declaredNames } from './symbols';

const EQUATIONS = [
  'Embedding',
  'RMSNorm',
  'Linear',
  'SiLU',
  'SwiGLU',
  'Softmax',
  'RoPE',
  'RoPE frequencies',
  'NTK scaling',
  'Attention',
  'MoE',
  'Router',
  'Aux loss',
  'Cross-entropy',
  'Cross-entropy gradient',
  'AdamW',
  'Clipping',
  'Warmup',
  'Cosine',
  'Temperature',
  'Top-p',
];

interface Reference {
  equation: string;
  file: string;
  symbol: string;
}

/** Links to a source and the code spans after each, up to the next link. */
function referencesOf(page: Page): Reference[] {
  return tableRowsOf(page).flatMap((row) => {
    const cells = Object.values(row).join(' ');
    const sources = cells.matchAll(/\]\(([^)]+\.(?:ts|cc))\)([^[]*)/g);
    return Array.from(sources).flatMap(([, target, rest]) => {
      const file = posix.join(posix.dirname(page.path), target);
      return Array.from(rest.matchAll(/`([^`]+)`/g), ([, symbol]) => ({
        equation: row.Equation,
        file,
        symbol,
      }));
    });
  });
}

const missing = ({ file, symbol }: Reference) => !declaredNames(file).has(symbol);

describe.each(['README.md', 'docs/equations.md'])('%s', (path) => {
  const page = readPage(path);

  it('has a row with a file and a name for every equation', () => {
    const named = new Set(referencesOf(page).map(({ equation }) => equation));
    expect(EQUATIONS.filter((equation) => !named.has(equation))).toEqual([]);
  });

  it('names only what its files declare', () => {
    expect(referencesOf(page).filter(missing)).toEqual([]);
  });
});

it('the search tells a declared name from one that is only used, of another class, or misspelt', () => {
  const at = (file: string, symbol: string) => missing({ equation: '', file, symbol });
  expect(at('src/model/attention.ts', 'RopeTable.frequencies')).toBe(false);
  expect(at('src/model/attention.ts', 'MQAttention.#rotate')).toBe(false);
  expect(at('src/model/attention.ts', 'MQAttention.frequencies')).toBe(true);
  expect(at('src/model/attention.ts', 'attentionForward')).toBe(true);
  expect(at('native/kernels/rope.cc', 'rope')).toBe(false);
  expect(at('native/kernels/attention_few_rows.cc', 'expRow')).toBe(true);
});
