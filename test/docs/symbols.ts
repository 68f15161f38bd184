/** Which names a source file declares. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { ROOT } from './markdown';

const cache = new Map<string, Set<string>>();

/** Names declared in a file: in TypeScript also 'Class.member' and the keys of object literals; in C++ functions. */
export function declaredNames(path: string): Set<string> {
  let names = cache.get(path);
  if (names === undefined) {
    const text = readFileSync(join(ROOT, path), 'utf8');
    names = path.endsWith('.ts') ? namesInTypeScript(path, text) : namesInCpp(text);
    cache.set(path, names);
  }
  return names;
}

function namesInTypeScript(path: string, text: string): Set<string> {
  const names = new Set<string>();
  const visit = (node: ts.Node, owner: string): void => {
    const { name } = node as { name?: ts.Node };
    const isDeclaration =
      ts.isFunctionDeclaration(node) ||
      ts.isClassDeclaration(node) ||
      ts.isVariableDeclaration(node) ||
      ts.isPropertyAssignment(node) ||
      ts.isMethodDeclaration(node) ||
      ts.isGetAccessor(node);
    const inside = ts.isClassDeclaration(node) && name ? `${name.getText()}.` : owner;
    if (isDeclaration && name) names.add(`${ts.isClassDeclaration(node) ? '' : owner}${name.getText()}`);
    ts.forEachChild(node, (child) => visit(child, inside));
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true), '');
  return names;
}

/** Definitions start in the first column here: 'void name(' or 'static double name('. */
function namesInCpp(text: string): Set<string> {
  return new Set(Array.from(text.matchAll(/^(?:static |inline )*[a-z]\w* (\w+)\(/gm), (match) => match[1]));
}
