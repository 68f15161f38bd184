/**
 * Builds the addon with native/blas_accelerate.cc against the fake framework of this folder.
 *
 *   node test/native/fake-accelerate/build.js <folder>
 *
 * Prints the path of the addon. An existing build in <folder> is brought up to date.
 */
const { execFileSync } = require('node:child_process');
const { mkdirSync } = require('node:fs');
const { join, resolve } = require('node:path');

function cmake(source, build, settings) {
  const definitions = Object.entries(settings).map(([name, value]) => `-D${name}=${value}`);
  const run = (args) => execFileSync('cmake', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  run(['-S', source, '-B', build, '-DCMAKE_BUILD_TYPE=Release', ...definitions]);
  run(['--build', build, '--parallel', '2']);
}

if (process.argv.length !== 3) {
  console.error('usage: node build.js <folder>');
  process.exit(2);
}
const folder = resolve(process.argv[2]);
const framework = join(folder, 'framework');
const addon = join(folder, 'addon');
mkdirSync(folder, { recursive: true });
cmake(__dirname, framework, {});
cmake(join(__dirname, '..', '..', '..'), addon, {
  SGEMOE_ACCELERATE: 'ON',
  SGEMOE_ACCELERATE_INCLUDE: __dirname,
  SGEMOE_ACCELERATE_LIBRARY: join(framework, 'libaccelerate.so'),
});
console.log(join(addon, 'sgemoe.node'));
