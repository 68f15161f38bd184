'use strict';
/**
 * node bench/run.js [--all] [--trials n] [--warmup n] [--filter text] [--threads n] [--backend name] [--out file]
 *
 * Times the scenarios and prints them as JSON. docs/benchmark.md says what each isolates and how it is measured.
 */
const fs = require('node:fs');
const os = require('node:os');
const {
  MOST_RUNS,
  UsageError,
  addBackendOptions,
  applyBackendOptions,
  checkWritable,
  command,
  integer,
  start,
} = require('./lib/command');

const DEFAULT_TRIALS = 10;
const DEFAULT_WARMUP = 3;

start(main);

async function main() {
  const options = readOptions();
  applyBackendOptions(options);
  const runs = { trials: options.trials, warmup: options.warmup };
  const plan = choose(options);
  // This loads the library, so the environment variables must be set by now.
  const { metadataOf } = require('./lib/metadata');
  const metadata = metadataOf(runs);
  const scenarios = await runAll(plan, runs, metadata.threads);
  const json = `${JSON.stringify({ metadata, scenarios }, null, 2)}\n`;
  if (options.out === undefined) process.stdout.write(json);
  else fs.writeFileSync(options.out, json);
}

/** @returns {any} */
function readOptions() {
  const program = command('run.js', 'Times the scenarios and prints JSON to stdout, progress to stderr.')
    .option('--trials <n>', 'timed runs of each scenario', integer(1, MOST_RUNS), DEFAULT_TRIALS)
    .option('--warmup <n>', 'runs before them', integer(0, MOST_RUNS), DEFAULT_WARMUP)
    .option('--filter <text>', 'only scenarios whose id contains the text; several with commas between')
    .option('--all', 'also the axes beyond those of the other languages', false)
    .option('--out <file>', 'write the JSON there instead of to stdout');
  addBackendOptions(program).parse();
  const options = program.opts();
  if (options.out !== undefined) checkWritable('--out', options.out);
  return options;
}

/**
 * The scenarios to run, axis by axis.
 * @returns {{ axis: string, scenarios: import('./lib/measure').Scenario[] }[]}
 */
function choose({ all, filter }) {
  const { EXTRA_AXES, STANDARD_AXES, scenariosOf } = require('./axes');
  const wanted = filter?.split(',').filter(Boolean);
  const matches = ({ id }) => wanted === undefined || wanted.some((text) => id.includes(text));
  const chosen = (axes) => axes.map((axis) => ({ axis, scenarios: scenariosOf(axis).filter(matches) }));
  const plan = chosen(all ? [...STANDARD_AXES, ...EXTRA_AXES] : STANDARD_AXES).filter(hasScenarios);
  if (plan.length === 0) {
    const hint = !all && chosen(EXTRA_AXES).some(hasScenarios) ? ' (with --all it would)' : '';
    const ids = STANDARD_AXES.flatMap(scenariosOf).map(({ id }) => id);
    throw new UsageError(`--filter ${filter} matches no scenario${hint}. They are: ${ids.join(', ')}.`);
  }
  return plan.map(({ axis, scenarios }) => ({ axis, scenarios: scenarios.filter(fitsInMemory) }));
}

function hasScenarios({ scenarios }) {
  return scenarios.length > 0;
}

function fitsInMemory({ id, needsBytes = 0 }) {
  const free = os.freemem();
  if (free >= needsBytes) return true;
  const gib = (bytes) => (bytes / 2 ** 30).toFixed(1);
  console.error(`bench: ${id} is left out, it needs ${gib(needsBytes)} GiB and ${gib(free)} GiB are free.`);
  return false;
}

async function runAll(plan, runs, threads) {
  const { Progress } = require('./lib/progress');
  const { runJob } = require('./lib/process');
  // This process has already shown the library's warning; each of the others would repeat it.
  const env = { NODE_NO_WARNINGS: '1' };
  const progress = new Progress(plan.reduce((sum, { scenarios }) => sum + scenarios.length, 0));
  const results = [];
  for (const { axis, scenarios } of plan) {
    const ids = scenarios.map(({ id }) => id);
    const ofAxis = new Map();
    await runJob({ axis, ids, runs, purpose: 'time' }, env, ({ id, result }) => {
      ofAxis.set(id, result);
      progress.done(id, result.median_ns);
    });
    for (const id of ids) {
      const { params, ...rest } = ofAxis.get(id);
      await runJob({ axis, ids: [id], runs, purpose: 'memory' }, env, ({ peakRss }) => {
        rest.memory.peak_rss_bytes = peakRss;
      });
      results.push({ id, axis, params: { thread_count: threads, ...params }, ...rest });
    }
  }
  progress.end();
  return results;
}
