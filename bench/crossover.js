'use strict';
/**
 * node bench/crossover.js [--trials n] [--threads n] [--filter text] [--out file]
 *
 * Times the matmuls of the models' steps in three ways, in turn: by the built-in kernel alone, by the BLAS library alone, and
 * by the default backend, which chooses between the two. Prints a Markdown table; native/dispatch.cc follows its figures.
 */
const fs = require('node:fs');
const {
  MOST_RUNS,
  UsageError,
  addThreadsOption,
  applyBackendOptions,
  checkWritable,
  command,
  integer,
  start,
} = require('./lib/command');

const DEFAULT_TRIALS = 101;

start(async () => {
  const { trials, threads, filter, out } = readOptions();
  applyBackendOptions({ threads, backend: 'auto' });
  const ways = findWays();
  const { recordShapes } = require('./lib/matmulShapes');
  const { timeInTurn } = require('./lib/crossoverTimes');
  const { Progress } = require('./lib/progress');
  const shapes = choose(recordShapes(ways.choice), filter);
  const progress = new Progress(shapes.length);
  const results = shapes.map((shape) => {
    const result = timeInTurn(ways, shape, trials);
    progress.done(shape.id, shape.flops / result.gflops.choice);
    return result;
  });
  progress.end();
  const report = { metadata: require('./lib/metadata').metadataOf({ trials, warmup: 1 }), shapes: results };
  process.stdout.write(markdown(report));
  if (out !== undefined) fs.writeFileSync(out, `${JSON.stringify(report, null, 2)}\n`);
});

/** @returns {any} */
function readOptions() {
  const program = command(
    'crossover.js',
    'Times the built-in matmul, the BLAS library and the choice between the two.',
  )
    .option(
      '--trials <n>',
      'timed trials of each shape; fewer of long ones',
      integer(1, MOST_RUNS),
      DEFAULT_TRIALS,
    )
    .option('--filter <text>', 'only shapes whose id or step contains the text; several with commas between')
    .option('--out <file>', 'write all figures there, as JSON');
  const options = addThreadsOption(program).parse().opts();
  if (options.out !== undefined) checkWritable('--out', options.out);
  return options;
}

/** @returns {import('./lib/crossoverTimes').Ways} */
function findWays() {
  const { createKernels } = require('../dist/backend');
  const choice = createKernels('auto');
  const { backend, blas } = choice.info;
  if (blas === null) {
    throw new UsageError('this machine has no BLAS library to compare the built-in kernel with.');
  }
  return { builtin: createKernels('builtin'), library: createKernels(backend), choice };
}

function choose(known, filter) {
  const wanted = filter?.split(',').filter(Boolean);
  const matches = ({ id, steps }) =>
    wanted.some((text) => [id, ...steps].some((name) => name.includes(text)));
  const chosen = wanted === undefined ? known : known.filter(matches);
  if (chosen.length > 0) return chosen;
  const steps = [...new Set(known.flatMap((shape) => shape.steps))];
  throw new UsageError(`--filter ${filter} matches no shape. The steps are: ${steps.join(', ')}.`);
}

function markdown({ metadata, shapes }) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const row = ({ id, steps, gflops, builtin_over_library, choice_over_better, choice_over_builtin }) => {
    const rates = [gflops.builtin, gflops.library, gflops.choice].map((rate) => rate.toFixed(1));
    const ratios = [builtin_over_library, choice_over_better, choice_over_builtin];
    return line([id, steps.join(', '), ...rates, ...ratios.map((ratio) => ratio.toFixed(2))]);
  };
  const worst = shapes.reduce((a, b) => (b.choice_over_better < a.choice_over_better ? b : a));
  const loss = Math.max(0, 100 * (1 - worst.choice_over_better));
  const head = ['op(A) op(B), m x n x k', 'where', 'built-in', 'library', 'choice'];
  return [
    `GFLOP/s of the built-in kernel (${metadata.instruction_set}) and of ${metadata.blas}; threads: ${metadata.threads}.`,
    '',
    line([...head, 'built-in / library', 'choice / better', 'choice / built-in']),
    line(['---', '---', '---:', '---:', '---:', '---:', '---:', '---:']),
    ...shapes.map(row),
    '',
    `The choice loses at most ${loss.toFixed(1)} % against the better of the two: ${worst.id}.`,
    '',
    gainSentence(shapes.map((shape) => shape.choice_over_builtin)),
    '',
  ].join('\n');
}

/** What the library adds to the built-in kernel; every shape counts alike. */
function gainSentence(gains) {
  const mean = Math.exp(gains.reduce((sum, gain) => sum + Math.log(gain), 0) / gains.length);
  const [least, most] = [Math.min(...gains), Math.max(...gains)].map((gain) => gain.toFixed(2));
  return `The library makes the choice ${mean.toFixed(2)} times as fast as the built-in kernel alone (${least} to ${most}).`;
}
