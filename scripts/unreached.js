'use strict';
/**
 * Lists the files of dist/ that no user of the package can reach: programs that neither an entry nor the command requires, since
 * they are in the workers' program or in dist/web, and declarations that those of the entries don't name. The clone's tests
 * and benchmarks read them, so they stay in dist/, and dist/.npmignore keeps them out of the tarball.
 */
const fs = require('node:fs');
const path = require('node:path');

const KINDS = [
  { ending: '.js', entries: ['index.js', 'ai.js', 'cli/main.js'], imports: /\brequire\("(\.[^"]+)"\)/g },
  {
    ending: '.d.ts',
    entries: ['index.d.ts', 'ai.d.ts', 'web.d.ts'],
    imports: /(?:\bfrom |\bimport\()['"](\.[^'"]+)['"]/g,
  },
];

/** @param dist the folder; what it holds for browsers is no module of Node's and not listed. @returns paths with slashes. */
function unreached(dist) {
  return KINDS.flatMap((kind) => {
    const reached = reachedFrom(dist, kind);
    return filesOf(dist, kind.ending).filter((file) => !reached.has(file));
  });
}

function filesOf(dist, ending) {
  return fs
    .readdirSync(dist, { recursive: true })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => file.endsWith(ending) && !/^(web|cli\/report\/assets)\//.test(file))
    .sort();
}

function reachedFrom(dist, { ending, entries, imports }) {
  const reached = new Set(entries);
  for (const file of reached) {
    for (const [, specifier] of fs.readFileSync(path.join(dist, file), 'utf8').matchAll(imports)) {
      const target = path.posix.join(path.posix.dirname(file), specifier).replace(/\.js$/, '');
      const found = [`${target}${ending}`, `${target}/index${ending}`].find((name) =>
        fs.existsSync(path.join(dist, name)),
      );
      if (found !== undefined) reached.add(found);
      else if (!specifier.endsWith('.json') && !specifier.endsWith('.node'))
        throw new Error(`${file} imports ${specifier}, which isn't in ${dist}`);
    }
  }
  return reached;
}

module.exports = { unreached };
