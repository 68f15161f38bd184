'use strict';
/**
 * node bench/scaling.js [--models tiny,small,hidden512,hidden768] [--threads 1,2,4] [--steps n] [--rounds n] [--model-threads 8,16,64]
 *
 * How steps scale with threads. Measured: the speed-up of each number of threads over one, in turns, a process each. On paper: what
 * more cores than this machine has would give, from the regions of a step that is cut as for so many and runs on one thread
 * (bench/lib/criticalPath.js), and what bounds it on the most threads. For these it builds the addon with another pool, once, into
 * build/regions (minutes); --no-paper leaves them out.
 */
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { UsageError, command, integer, integers, start } = require('./lib/command');
const { pathOf, regionsOf } = require('./lib/criticalPath');
const { printRow } = require('./lib/markdown');
const { median } = require('./lib/stats');
const { HIDDEN_512, HIDDEN_768 } = require('./peers/scenarios');

const ROOT = path.join(__dirname, '..');
const FOLDER = path.join(ROOT, 'build', 'regions');
const PROGRAM = path.join(__dirname, 'lib', 'scalingProgram.js');
const MODELS = {
  tiny: [
    { work: 'forward', model: 'tiny', batch: 2, seq: 32, warmup: 300, steps: 200 },
    { work: 'train', model: 'tiny', batch: 2, seq: 8, warmup: 300, steps: 200 },
  ],
  small: [
    { work: 'forward', model: 'small', batch: 2, seq: 32, warmup: 50, steps: 50 },
    { work: 'train', model: 'small', batch: 4, seq: 128, warmup: 5, steps: 10 },
  ],
  hidden512: [
    { work: 'forward', model: HIDDEN_512, batch: 4, seq: 256, warmup: 1, steps: 3 },
    { work: 'train', model: HIDDEN_512, batch: 4, seq: 256, warmup: 1, steps: 3 },
  ],
  hidden768: [{ work: 'train', model: HIDDEN_768, batch: 4, seq: 256, warmup: 1, steps: 2 }],
};

start(async () => {
  const cores = os.availableParallelism();
  const doubling = Array.from({ length: 1 + Math.floor(Math.log2(cores)) }, (_, i) => 2 ** i);
  const program = command('scaling.js', 'Speed-up of steps by the number of threads, measured and on paper.')
    .option(
      '--models <names>',
      `which, with commas between: ${Object.keys(MODELS)}`,
      Object.keys(MODELS).join(),
    )
    .option('--threads <list>', 'numbers of threads to measure', integers(1, 256), doubling)
    .option('--model-threads <list>', 'numbers of threads on paper', integers(1, 256), [2, 4, 8, 16, 64])
    .option('--rounds <n>', 'turns', integer(1, 100), 3)
    .option('--no-paper', 'measure only');
  /** @type {any} */
  const options = program.parse().opts();
  const names = options.models.split(',');
  const unknown = names.find((name) => !(name in MODELS));
  if (unknown !== undefined) throw new UsageError(`--models: there is no ${unknown}.`);
  const addon = options.paper ? buildLogged() : null;
  const columns = [
    'step',
    ...options.threads.map((n) => (n === 1 ? '1 thread, ms' : `${n} threads`)),
    ...(addon ? ['regions', ...options.modelThreads.map((n) => `${n} on paper`)] : []),
    ...(addon ? ['of it outside regions', 'hand-over', 'chunks'] : []),
  ];
  printRow(columns);
  printRow(columns.map((_, i) => (i === 0 ? '---' : '---:')));
  for (const name of names) {
    for (const work of MODELS[name]) printRow(rowOf(name, work, options, addon));
  }
});

function rowOf(name, work, { threads, modelThreads, rounds }, addon) {
  const { batch, seq } = work;
  const times = threads.map(() => []);
  for (let round = 0; round < rounds; round++) {
    threads.forEach((n, i) => {
      times[i].push(...stepsOf(work, { SGEMOE_THREADS: String(n) }).map(({ begin, end }) => end - begin));
    });
  }
  const [one, ...others] = times.map(median);
  const measured = [(one / 1e6).toPrecision(3), ...others.map((ns) => `${(one / ns).toFixed(2)}x`)];
  return [
    `${name} ${work.work} B${batch} S${seq}`,
    ...measured,
    ...(addon ? paperOf(work, modelThreads, rounds, addon) : []),
  ];
}

function stepsOf(work, env) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, JSON.stringify(work)], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the steps failed: ${stderr}`);
  return JSON.parse(stdout);
}

/** Regions of a step, its speed-up on paper for each number of threads, and where the time of the last one goes. */
function paperOf(work, modelThreads, rounds, addon) {
  // The fastest of some turns: the machine is faster in some than in others.
  const turns = Array.from({ length: rounds }, () =>
    [1, ...modelThreads].map((threads) => pathOn(threads, work, addon)),
  );
  const [one, ...paths] = turns[0].map((_, i) =>
    turns.map((turn) => turn[i]).reduce((best, path) => (path.total < best.total ? path : best)),
  );
  const most = paths[paths.length - 1];
  return [
    one.regions,
    ...paths.map(({ total }) => `${(one.total / total).toFixed(1)}x`),
    ...[most.outside, most.handOver, most.longest].map((ns) => `${((100 * ns) / most.total).toFixed(0)} %`),
  ];
}

/** The work is cut as for so many threads, all of it runs on one, and the threads share it on paper. */
function pathOn(threads, work, addon) {
  const log = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'sgemoe-regions-')), 'log');
  const env = {
    SGEMOE_ADDON: addon,
    SGEMOE_BACKEND: 'builtin',
    SGEMOE_THREADS: String(threads),
    REGION_LOG: log,
  };
  try {
    const steps = stepsOf(work, env);
    const regions = regionsOf(new Float64Array(Uint8Array.from(fs.readFileSync(log)).buffer));
    const lasted = ({ begin, end }) => end - begin;
    // Of the fastest step: a chunk in which another program took the core would count as work.
    const fastest = steps.reduce((best, step) => (lasted(step) < lasted(best) ? step : best));
    return pathOf(fastest, regions, threads);
  } finally {
    fs.rmSync(path.dirname(log), { recursive: true });
  }
}

/** Builds the addon whose pool logs; its file. */
function buildLogged() {
  const build = (...args) => {
    const { status, stdout, stderr } = spawnSync('cmake', args, { cwd: ROOT, encoding: 'utf8' });
    if (status !== 0) throw new Error(`cmake ${args.join(' ')} failed: ${stderr || stdout}`);
  };
  build('-S', '.', '-B', FOLDER, '-DSGEMOE_REGIONS=ON');
  build('--build', FOLDER, '--parallel', String(os.availableParallelism()), '--target', 'sgemoe');
  const file = ['Release', '.'].map((folder) => path.join(FOLDER, folder, 'sgemoe.node')).find(fs.existsSync);
  if (file === undefined) throw new Error(`there is no sgemoe.node in ${FOLDER}`);
  return file;
}
