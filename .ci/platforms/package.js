'use strict';
/** The package as it is published, with the addons of all platforms: what it holds and how large it is. */
const { execFileSync } = require('node:child_process');
const path = require('node:path');

const TARBALL_LIMIT_BYTES = 6_000_000;
/** Unpacked, without prebuilds/; what it depends on is in test/package/consumer.test.ts. */
const REST_LIMIT_BYTES = 5_000_000;

/** @param platforms those whose addon must be in it. */
function checkPackage(root, platforms) {
  const [{ size, files }] = packed(root);
  const addons = platforms.map((platform) => `prebuilds/${platform}/sgemoe.node`);
  const present = new Set(files.map(({ path }) => path));
  const wasm = ['kernels', 'kernels-relaxed'].map((name) => `dist/web/${name}.wasm.gz`);
  const missing = [...addons, ...wasm, 'THIRD_PARTY_LICENSES'].filter((file) => !present.has(file));
  const rest = files.filter(({ path }) => !path.startsWith('prebuilds/'));
  const restBytes = rest.reduce((sum, file) => sum + file.size, 0);
  console.log(`package: ${size} bytes packed; unpacked without prebuilds/ ${restBytes} bytes`);
  return [
    { name: 'every addon, WebAssembly and the licences are in it', fault: missing.join() || null },
    { name: `at most ${TARBALL_LIMIT_BYTES} bytes packed`, fault: above(size, TARBALL_LIMIT_BYTES) },
    {
      name: `at most ${REST_LIMIT_BYTES} bytes without prebuilds/`,
      fault: above(restBytes, REST_LIMIT_BYTES),
    },
  ];
}

/** What `npm pack --json` says: a list up to npm 11, a record by package name from npm 12. */
function packed(root) {
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 };
  const script = path.join(root, 'scripts', 'pack.js');
  execFileSync(process.execPath, [script], { ...options, stdio: 'ignore' });
  try {
    const stdout = execFileSync('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], options);
    return Object.values(JSON.parse(stdout));
  } finally {
    execFileSync(process.execPath, [script, '--clean'], options);
  }
}

const above = (bytes, limit) => (bytes > limit ? `${bytes} bytes` : null);

module.exports = { checkPackage };
