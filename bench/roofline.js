'use strict';
/**
 * node bench/roofline.js results.json --out picture.svg
 *
 * Draws what `node bench/run.js --all --filter kernels` measured: the rate of each kernel against the best of its kind.
 */
const fs = require('node:fs');
const { UsageError, checkWritable, command, start } = require('./lib/command');

start(async () => {
  const program = command('roofline.js', 'Draws the rate of each kernel against the measured peaks, as SVG.')
    .argument('<file>', "results of bench/run.js with its 'kernels' axis")
    .requiredOption('--out <file>', 'where to write the picture')
    .parse();
  const { out } = program.opts();
  checkWritable('--out', out);
  const [file] = program.args;
  const { rooflineSvg, readKernels } = require('./report/roofline');
  const kernels = readKernels(file);
  if (kernels.length === 0) {
    throw new UsageError(`${file} has no scenario of the kernels axis: bench/run.js --all --filter kernels.`);
  }
  fs.writeFileSync(out, rooflineSvg(kernels));
});
