'use strict';
/**
 * npm run build:web [-- --out <folder>]
 *
 * Builds dist/web/: the package for browsers, one ES module (index.js) with its kernels (gzipped: most static servers send
 * files as they are), and the page demo.html with the files that it needs. Any static server can serve the folder. The sources are the package's; backend/browser.ts replaces
 * the loader, and web/node.js replaces Node's modules.
 */
const fs = require('node:fs');
const path = require('node:path');
const { gzipSync } = require('node:zlib');
const { rolldown } = require('rolldown');

const ROOT = path.resolve(__dirname, '..');
const SHIM = path.join(__dirname, 'web', 'node.js');
const LOADER = path.join(ROOT, 'src', 'backend', 'index.ts');
const BROWSER = path.join(ROOT, 'src', 'backend', 'browser.ts');
const KERNELS = ['kernels.wasm', 'kernels-relaxed.wasm'].map((name) =>
  path.join(ROOT, 'prebuilds', 'wasm', name),
);
/** Modules of which a page has others. */
const REPLACED = new Map([
  [LOADER, BROWSER],
  ...['model/expertExchange.ts', 'training/distributed/exchange.ts'].map((file) => [
    path.join(ROOT, 'src', file),
    path.join(__dirname, 'web', 'ranks.js'),
  ]),
]);
const HUB = path.join(ROOT, 'src', 'hf', 'hub') + path.sep;
const PAGE = path.join(ROOT, 'src', 'web');
/** Files of the page, copied as they are. */
const COPIED = [
  'web/demo.html',
  'web/demoWorker.js',
  'web/demo.css',
  'serve/page/base.css',
  'serve/page/page.css',
  'serve/page/icon.svg',
];
/** The limit of all files together; a model is not among them. */
const MAX_GZIP_BYTES = 400 * 1024;

const browserPlugin = {
  name: 'sgemoe-browser',
  resolveId(specifier, importer) {
    if (specifier.startsWith('node:')) return SHIM;
    if (!specifier.startsWith('.') || importer === undefined) return null;
    const target = path.resolve(path.dirname(importer), specifier);
    // A browser has no cache folder: there `loadModel` fetches.
    if (target.startsWith(HUB)) return SHIM;
    const files = [target, `${target}.ts`, path.join(target, 'index.ts')];
    return REPLACED.get(files.find((file) => REPLACED.has(file)) ?? '') ?? null;
  },
};

const [flag, value] = process.argv.slice(2);
if (flag !== undefined && !(flag === '--out' && value)) {
  console.error('build:web: usage: --out <folder>');
  process.exit(1);
}
main(path.resolve(value ?? path.join(ROOT, 'dist', 'web'))).catch((error) => {
  console.error(`build:web: ${error.message}`);
  process.exitCode = 1;
});

async function main(out) {
  const missing = KERNELS.find((file) => !fs.existsSync(file));
  if (missing !== undefined) throw new Error(`${missing} is missing: npm run build:wasm makes it`);
  fs.rmSync(out, { recursive: true, force: true });
  fs.mkdirSync(out, { recursive: true });
  const bundle = await rolldown({
    input: path.join(ROOT, 'src', 'web.ts'),
    platform: 'browser',
    shimMissingExports: true,
    plugins: [browserPlugin],
    logLevel: 'silent',
    treeshake: { moduleSideEffects: false },
    transform: {
      define: { SGEMOE_MODULE_URL: 'import.meta.url' },
      inject: { process: [SHIM, 'process'], Buffer: [SHIM, 'Buffer'] },
    },
  });
  await bundle.write({ file: path.join(out, 'index.js'), format: 'esm', minify: true });
  for (const file of KERNELS) {
    const packed = gzipSync(fs.readFileSync(file), { level: 9 });
    fs.writeFileSync(path.join(out, `${path.basename(file)}.gz`), packed);
  }
  for (const file of COPIED)
    fs.copyFileSync(path.join(ROOT, 'src', file), path.join(out, path.basename(file)));
  const page = await rolldown({ input: path.join(PAGE, 'demo.js'), platform: 'browser', logLevel: 'silent' });
  await page.write({ file: path.join(out, 'demo.js'), format: 'esm', minify: true });
  report(out);
}

function report(out) {
  let total = 0;
  for (const name of fs.readdirSync(out).sort()) {
    const bytes = fs.readFileSync(path.join(out, name));
    const packed = gzipSync(bytes, { level: 9 }).length;
    total += packed;
    console.log(`${name}: ${bytes.length} bytes, ${packed} gzipped`);
  }
  console.log(`together: ${total} bytes gzipped`);
  if (total > MAX_GZIP_BYTES) throw new Error(`that is more than ${MAX_GZIP_BYTES}`);
}
