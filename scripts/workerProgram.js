'use strict';
/**
 * Makes the program of the engine's workers as one text: a module of dist/ with everything that it requires, packages included.
 * A text starts wherever a bundler, a tracer or a single executable has put the package; a separate file would be left behind.
 */
const fs = require('node:fs');
const { builtinModules, createRequire } = require('node:module');
const path = require('node:path');
const ts = require('typescript');

/** Node's own modules, in a script and, where --input-type=module makes the text one, in an ES module. */
const RUNTIME = `
const builtin = typeof require === 'function' ? require : process.getBuiltinModule;
const loaded = [];
function load(id) {
  if (loaded[id] === undefined) {
    const module = (loaded[id] = { exports: {} });
    const [run, ids] = modules[id];
    run(module, module.exports, (name) => (Object.hasOwn(ids, name) ? load(ids[name]) : builtin(name)));
  }
  return loaded[id].exports;
}
load(0);
`;

/** @param entry the module's file. @param root the package, below which comments name the files. */
function workerProgram(entry, root) {
  const files = [entry];
  const modules = [];
  for (let id = 0; id < files.length; id++) {
    const source = codeOf(files[id]);
    const ids = {};
    for (const [, , specifier] of source.matchAll(/\brequire\((["'])([^"']+)\1\)/g)) {
      const file = fileOf(files[id], specifier);
      if (file === null) continue;
      if (!files.includes(file)) files.push(file);
      ids[specifier] = files.indexOf(file);
    }
    modules.push(moduleText(files[id], source, ids, root));
  }
  return `'use strict';\nconst modules = [\n${modules.join('')}];\n${RUNTIME}`;
}

/** Null for modules that stay a require: Node's own, addons, whose path the workers get, and the hub's, which they never call. */
function fileOf(from, specifier) {
  if (specifier.startsWith('node:') || builtinModules.includes(specifier)) return null;
  const isLeftOut = specifier.endsWith('.node') || specifier.includes('/hf/hub/');
  return isLeftOut ? null : createRequire(from).resolve(specifier);
}

/** `__dirname` is a parameter without a value, since nothing in the text may look for files beside it. */
function moduleText(file, code, ids, root) {
  const name = path.relative(root, file).replaceAll('\\', '/');
  return `// ${name}\n[(module, exports, require, __dirname, __filename) => {\n${code}}, ${JSON.stringify(ids)}],\n`;
}

/** A module without its comments; of package.json only the fields that are read. */
function codeOf(file) {
  const source = fs.readFileSync(file, 'utf8');
  if (file.endsWith('.json')) {
    const { name, version } = JSON.parse(source);
    return `module.exports = ${JSON.stringify({ name, version })};\n`;
  }
  const compilerOptions = {
    module: ts.ModuleKind.CommonJS,
    target: ts.ScriptTarget.ES2022,
    removeComments: true,
  };
  return ts.transpileModule(source, { compilerOptions }).outputText;
}

module.exports = { workerProgram };
