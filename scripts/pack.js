'use strict';
/**
 * Builds dist/ and adds to the packed package what the clone lacks: the headers for compiling the addon, the licences of everything
 * in it, and binding.gyp in native/, since package managers build every package with one in its root. `prepack` adds these files,
 * `postpack` removes them again: in the clone the headers are those in node_modules.
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { findZig } = require('./zig');

const ROOT = path.resolve(__dirname, '..');
const HEADERS = path.join(ROOT, 'native', 'node-addon-api');
const GYP_FILE = path.join(ROOT, 'native', 'binding.gyp');
const LICENCES = path.join(ROOT, 'THIRD_PARTY_LICENSES');

/** Packages with a part in the tarball: which part it is, and where their licence lies. */
const BUNDLED = [
  {
    name: 'node-addon-api',
    what: 'the headers in native/node-addon-api',
    licence: 'LICENSE.md',
  },
  { name: '@huggingface/jinja', what: 'dist/serve/engine/workerProgram.js', licence: 'LICENSE' },
  { name: 'uplot', what: 'the script and style in dist/cli/report/chartLibrary.js', licence: 'LICENSE' },
];

/** What zig links into the prebuilt files, and where in its folder the licence is, or a source that begins with it. */
const LINKED = [
  { name: 'compiler-rt of zig', license: 'MIT', what: 'all of prebuilds/', texts: ['LICENSE'] },
  {
    // The licences of the three differ in the library's name.
    name: 'libc++, libc++abi and libunwind of LLVM',
    license: 'Apache-2.0 WITH LLVM-exception',
    what: 'prebuilds/*/sgemoe.node',
    texts: ['lib/libcxx/LICENSE.TXT'],
  },
  {
    name: 'the runtime of mingw-w64, with gdtoa',
    license: 'ZPL-2.1, public domain, SMLNJ',
    what: 'prebuilds/win32-*/sgemoe.node',
    texts: ['lib/libc/mingw/COPYING', 'lib/libc/mingw/gdtoa/gethex.c'],
  },
  {
    name: 'wasi-libc, with musl',
    license: 'MIT',
    what: 'the .wasm.gz files of dist/web',
    texts: ['LICENSE', 'LICENSE-MIT', 'libc-top-half/musl/COPYRIGHT'].map((file) => `lib/libc/wasi/${file}`),
  },
];

for (const file of [HEADERS, GYP_FILE, LICENCES]) fs.rmSync(file, { recursive: true, force: true });
if (!process.argv.includes('--clean')) {
  build('build-ts.js');
  buildForBrowsers();
  copyHeaders();
  fs.copyFileSync(path.join(ROOT, 'binding.gyp'), GYP_FILE);
  const licences = [...BUNDLED.map(licenceOf), ...licencesOfLinked()];
  fs.writeFileSync(LICENCES, licences.join(`\n${'-'.repeat(80)}\n\n`));
}

function build(script) {
  // What `npm pack --json` prints is read by programs.
  execFileSync(process.execPath, [path.join(__dirname, script)], { stdio: ['ignore', 2, 'inherit'] });
}

/** Builds dist/web/ with the kernels that `npm run prebuild` makes; without them the package has nothing for browsers. */
function buildForBrowsers() {
  if (fs.existsSync(path.join(ROOT, 'prebuilds', 'wasm', 'kernels-relaxed.wasm'))) {
    build('build-web.js');
  } else console.warn('pack: without sgemoe/web, since npm run build:wasm has not been run');
}

/**
 * Without the comments that have lines of their own, indentation and empty lines, a quarter of the text. A line that ends with a backslash
 * may belong to a macro.
 */
function copyHeaders() {
  const source = path.join(ROOT, 'node_modules', 'node-addon-api');
  fs.mkdirSync(HEADERS);
  for (const name of fs.readdirSync(source).filter((file) => file.endsWith('.h'))) {
    const text = fs.readFileSync(path.join(source, name), 'utf8');
    fs.writeFileSync(
      path.join(HEADERS, name),
      text.replace(/^[ \t]*\/\/.*(?<!\\)\r?\n/gm, '').replace(/(?<!\\\r?\n)^[ \t]*\r?\n|^[ \t]+/gm, ''),
    );
  }
}

function licenceOf({ name, what, licence }) {
  const folder = path.join(ROOT, 'node_modules', name);
  const { version, license } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const text = fs.readFileSync(path.join(folder, licence), 'utf8').trim();
  return `${name} ${version} (${license}): ${what}\n\n${text}\n`;
}

/** None without prebuilt files: then nothing of zig's is packed. */
function licencesOfLinked() {
  if (!fs.existsSync(path.join(ROOT, 'prebuilds'))) return [];
  const zig = path.dirname(findZig());
  const version = execFileSync(findZig(), ['version'], { encoding: 'utf8' }).trim();
  return LINKED.map(({ name, license, what, texts }) => {
    const read = texts.map((file) => licenceText(path.join(zig, file)));
    return `${name}, with zig ${version} (${license}): linked into ${what}\n\n${read.join('\n\n')}\n`;
  });
}

/** A file, or the comment that a source begins with. */
function licenceText(file) {
  const text = fs.readFileSync(file, 'utf8');
  if (!file.endsWith('.c')) return text.trim();
  return /^\/\*+\s*([\s\S]*?)\s*\*+\//.exec(text)[1];
}
