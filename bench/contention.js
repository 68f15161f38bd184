'use strict';
/**
 * node bench/contention.js [--trials 400]
 *
 * Times the tiny model's forward (B2 S32) and train step (B2 S8) with two threads against one: alone, and while another
 * process computes without end on one core. Blocks of trials with one and with two threads take turns.
 */
const { execFileSync, spawn } = require('node:child_process');
const { MOST_RUNS, command, integer, start } = require('./lib/command');
const { summarise } = require('./lib/stats');

const BLOCK = 50; // trials between two changes of the thread count
const WARMUP = 5; // untimed runs after each change

start(async () => {
  const program = command('contention.js', 'Two threads against one, alone and with one core taken.')
    .option('--trials <n>', 'steps for each figure', integer(BLOCK, MOST_RUNS), 400)
    .parse();
  const { trials } = program.opts();
  console.log('two threads / one    mean     median   p95      (one: mean, median, p95; us)');
  measureAll('alone', trials);
  const other = takeCore();
  try {
    await new Promise((resolve) => setTimeout(resolve, 200));
    measureAll('core taken', trials);
  } finally {
    other.kill('SIGKILL');
  }
});

/** A process that never rests. taskset pins it to core 0 if it can; else the system places it. */
function takeCore() {
  const busy = [process.execPath, '-e', 'for (;;);'];
  try {
    execFileSync('taskset', ['-c', '0', 'true'], { stdio: 'ignore' });
    return spawn('taskset', ['-c', '0', ...busy], { stdio: 'ignore' });
  } catch {
    return spawn(busy[0], busy.slice(1), { stdio: 'ignore' });
  }
}

function measureAll(title, trials) {
  for (const work of ['forward', 'train']) {
    const [one, two] = measure(work, trials);
    const ratios = ['mean', 'median', 'p95'].map((key) => `${(two[key] / one[key]).toFixed(2)}x`.padEnd(8));
    const times = ['mean', 'median', 'p95'].map((key) => (one[key] / 1000).toFixed(0));
    console.log(`${`${title}: ${work}`.padEnd(20)} ${ratios.join(' ')} (${times.join(', ')})`);
  }
}

/** Summaries with one thread and with two, in ns. */
function measure(work, trials) {
  const { setThreads } = require('..');
  const { WORK, configOf } = require('./lib/models');
  const { run } = WORK[work](configOf('tiny'), 2, work === 'forward' ? 32 : 8);
  for (let i = 0; i < 200; i++) run();
  /** @type {number[][]} */
  const times = [[], []];
  while (times[1].length < trials) {
    for (const threads of [1, 2]) {
      setThreads(threads);
      for (let i = 0; i < WARMUP; i++) run();
      for (let i = 0; i < BLOCK; i++) times[threads - 1].push(timeOf(run));
    }
  }
  return times.map((sample) => ({
    ...summarise(sample),
    mean: sample.reduce((sum, ns) => sum + ns, 0) / sample.length,
  }));
}

function timeOf(run) {
  const before = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - before);
}
