'use strict';
/**
 * node bench/distributed.js [--models small,hidden512] [--tokens n] [--ranks n] [--steps n] [--rounds n] [--launcher command]
 *
 * Times train steps of one process with as many threads as there are ranks, and of ranks with one thread each under mpirun, in turns, on
 * the same batch. Prints as Markdown: tokens/s of both, their ratio (the efficiency), the bytes that a rank sends in a step over the least
 * that summing and handing out gradients needs, and the memory of a process. docs/distributed.md shows the results.
 */
const { spawnSync } = require('node:child_process');
const path = require('node:path');
const {
  addBackendOptions,
  applyBackendOptions,
  command,
  integer,
  start,
  UsageError,
} = require('./lib/command');
const { printRow } = require('./lib/markdown');
const { median } = require('./lib/stats');
const { HIDDEN_512, HIDDEN_768 } = require('./peers/scenarios');

const PROGRAM = path.join(__dirname, 'lib', 'rankProgram.js');
const SEQ = 256;
const MODELS = { small: 'small', hidden512: HIDDEN_512, hidden768: HIDDEN_768 };
/** What Open MPI's launcher wants; MPICH's has no need of it. */
const LAUNCHERS = {
  'mpirun.openmpi': ['--oversubscribe', '--bind-to', 'none'],
  'mpirun.mpich': [],
};

start(async () => {
  const program = command('distributed.js', 'Measures training on several ranks of one machine.')
    .option(
      '--models <names>',
      `which, with commas between: ${Object.keys(MODELS).join(', ')}`,
      'small,hidden512',
    )
    .option('--tokens <n>', 'tokens of a rank in a step', integer(SEQ), 4096)
    .option('--ranks <n>', 'number of ranks', integer(2, 64), 2)
    .option('--steps <n>', 'timed steps of each run', integer(1, 1000), 3)
    .option('--rounds <n>', 'turns', integer(1, 100), 3)
    .option('--launcher <command>', Object.keys(LAUNCHERS).join(' or '), 'mpirun.openmpi');
  /** @type {any} */
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  const names = options.models.split(',');
  const unknown = names.find((name) => !(name in MODELS));
  if (unknown !== undefined) throw new UsageError(`--models: there is no ${unknown}.`);
  if (!(options.launcher in LAUNCHERS)) throw new UsageError(`--launcher: unknown ${options.launcher}.`);
  printRow([
    'model',
    'tokens a rank',
    'one process, tokens/s',
    `${options.ranks} ranks, tokens/s`,
    'efficiency',
    'sent by a rank, MB a step',
    'over the least',
    'memory, one process',
    'memory, a rank',
  ]);
  printRow(Array.from({ length: 9 }, () => '---'));
  for (const name of names) printRow(compare(name, options));
});

/** A row of the table. */
function compare(name, { tokens, ranks, steps, rounds, launcher }) {
  const batch = ranks * Math.floor(tokens / SEQ);
  const job = JSON.stringify({ model: MODELS[name], batch, seq: SEQ, microBatches: ranks, steps });
  /** @type {any[]} */
  const alone = [];
  /** @type {any[]} */
  const together = [];
  for (let round = 0; round < rounds; round++) {
    alone.push(run(process.execPath, [PROGRAM, job], { SGEMOE_THREADS: String(ranks), SGEMOE_MPI: 'none' }));
    const args = [...LAUNCHERS[launcher], '-n', String(ranks), process.execPath, PROGRAM, job];
    together.push(run(launcher, args, { SGEMOE_THREADS: '1' }));
  }
  if (together[0].loss !== alone[0].loss)
    throw new Error(`${name}: ranks end at another loss than one process`);
  const rate = ({ times }) => (1000 * batch * SEQ) / median(times);
  const ratios = together.map((each, round) => rate(each) / rate(alone[round]));
  const { sentBytes, parameters, memoryBytes } = together[0];
  const least = (2 * 4 * parameters * (ranks - 1)) / ranks;
  const gb = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
  return [
    name,
    (batch * SEQ) / ranks,
    median(alone.map(rate)).toFixed(0),
    median(together.map(rate)).toFixed(0),
    median(ratios).toFixed(2),
    (sentBytes / 1e6).toFixed(1),
    (sentBytes / least).toFixed(3),
    gb(alone[0].memoryBytes),
    gb(memoryBytes),
  ];
}

function run(program, args, env) {
  const rights = { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    env: { ...process.env, ...rights, ...env },
    encoding: 'utf8',
  });
  if (error) throw new UsageError(`${program}: ${error.message}`);
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr.slice(-2000)}`);
  return JSON.parse(stdout.slice(stdout.indexOf('{')));
}
