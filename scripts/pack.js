'use strict';
/**
 * What the packed package has beyond the clone: the headers that the addon is compiled with, the licences of all that is
 * in it, and binding.gyp in native/, since package managers build whatever has one in its root. `prepack` puts it in
 * place, `postpack` takes it away again: in the clone the headers are those in node_modules.
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const HEADERS = path.join(ROOT, 'native', 'node-addon-api');
const GYP_FILE = path.join(ROOT, 'native', 'binding.gyp');
const LICENCES = path.join(ROOT, 'THIRD_PARTY_LICENSES');

/** Packages of which something is in the tarball, what it is, and where they keep their licence. */
const BUNDLED = [
  {
    name: 'node-addon-api',
    what: 'the headers in native/node-addon-api',
    licence: 'LICENSE.md',
  },
  { name: '@huggingface/jinja', what: 'dist/serve/engine/workerProgram.js', licence: 'LICENSE' },
  { name: 'uplot', what: 'the script and style in dist/cli/report/chartLibrary.js', licence: 'LICENSE' },
];

for (const file of [HEADERS, GYP_FILE, LICENCES]) fs.rmSync(file, { recursive: true, force: true });
if (!process.argv.includes('--clean')) {
  buildForBrowsers();
  copyHeaders();
  fs.copyFileSync(path.join(ROOT, 'binding.gyp'), GYP_FILE);
  fs.writeFileSync(LICENCES, BUNDLED.map(licenceOf).join(`\n${'-'.repeat(80)}\n\n`));
}

/** dist/web/, which has the kernels that `npm run prebuild` makes; without them there is nothing for browsers. */
function buildForBrowsers() {
  if (fs.existsSync(path.join(ROOT, 'prebuilds', 'wasm', 'kernels.wasm'))) {
    execFileSync(process.execPath, [path.join(__dirname, 'build-web.js')], {
      stdio: ['ignore', 2, 'inherit'],
    });
  } else console.warn('pack: without sgemoe/web, since npm run build:wasm has not been run');
}

function copyHeaders() {
  const source = path.join(ROOT, 'node_modules', 'node-addon-api');
  fs.mkdirSync(HEADERS);
  for (const name of fs.readdirSync(source).filter((file) => file.endsWith('.h'))) {
    fs.copyFileSync(path.join(source, name), path.join(HEADERS, name));
  }
}

function licenceOf({ name, what, licence }) {
  const folder = path.join(ROOT, 'node_modules', name);
  const { version, license } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const text = fs.readFileSync(path.join(folder, licence), 'utf8').trim();
  return `${name} ${version} (${license}): ${what}\n\n${text}\n`;
}
