/**
 * Builds the addon with native/blas_accelerate.cc against the fake framework of this folder.
 *
 *   node test/native/fake-accelerate/build.js <folder> linked|opened
 *
 * `linked` to libaccelerate.so; `opened`, as the prebuilt addons of macOS are, opens <folder>/framework/Accelerate at run
 * time, which the caller makes a link to libaccelerate.so or libaccelerate_new.so. Prints the path of the addon. An
 * existing build in <folder> is brought up to date.
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

const [target, form, ...more] = process.argv.slice(2);
const framework = join(resolve(target ?? '.'), 'framework');
const settings = {
  linked: {
    SGEMOE_ACCELERATE_INCLUDE: __dirname,
    SGEMOE_ACCELERATE_LIBRARY: join(framework, 'libaccelerate.so'),
  },
  opened: { SGEMOE_ACCELERATE_PATH: join(framework, 'Accelerate') },
}[form];
if (settings === undefined || more.length > 0) {
  console.error('usage: node build.js <folder> linked|opened');
  process.exit(2);
}
const addon = join(resolve(target), form);
mkdirSync(addon, { recursive: true });
cmake(__dirname, framework, {});
cmake(join(__dirname, '..', '..', '..'), addon, { SGEMOE_ACCELERATE: 'ON', ...settings });
console.log(join(addon, 'sgemoe.node'));
