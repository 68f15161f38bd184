import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';

const SRC = resolve(__dirname, '../src');

const MOST_ARGUMENTS = 7;

/** Where the scalars of a kernel call may stand: below the boundary, and in the files that turn values into them. */
const BOUNDARY: readonly RegExp[] = [
  /^backend\//,
  /^memory\/(operations\/|weight\.ts$)/,
  /^tensor\/matmul\.ts$/,
  /^sampling\/(sampler|rowDraws)\.ts$/,
];

/** Calls and functions of a source with more than this many positional arguments, as 'line: text'. */
function longLists(name: string, text: string): string[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const note = (node: ts.Node, what: string, count: number) => {
    if (count <= MOST_ARGUMENTS) return;
    const { line } = source.getLineAndCharacterOfPosition(node.getStart());
    found.push(`${name}:${line + 1} ${what} has ${count}`);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) || ts.isNewExpression(node)) {
      note(node, node.expression.getText(), node.arguments?.length ?? 0);
    }
    if (ts.isFunctionLike(node)) note(node, node.name?.getText() ?? 'function', node.parameters.length);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

test('a function that takes eight arguments, and a call of one, are seen', () => {
  const text = 'function f(a, b, c, d, e, f, g, h) {}\nf(1, 2, 3, 4, 5, 6, 7, 8);\ng(1, 2, 3, 4, 5, 6, 7);';
  expect(longLists('x.ts', text)).toEqual(['x.ts:1 f has 8', 'x.ts:2 f has 8']);
});

test('above the boundary nothing takes eight positional arguments: matrices are values', () => {
  const names = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.ts'));
  const lists = (name: string) => longLists(name, readFileSync(join(SRC, name), 'utf8'));
  for (const pattern of BOUNDARY) {
    expect(names.filter((name) => pattern.test(name)).flatMap(lists)).not.toEqual([]);
  }
  const above = names.filter((name) => !BOUNDARY.some((pattern) => pattern.test(name)));
  expect(above.flatMap(lists)).toEqual([]);
});
