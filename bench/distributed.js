'use strict';
/**
 * node bench/distributed.js [--models small,hidden512] [--tokens n] [--ranks n] [--steps n] [--rounds n] [--launcher command]
 *                           [--expert-parallel n] [--gradient-checkpointing] [--bandwidth Gbit/s] [--peer python]
 *
 * Times train steps of one process with as many threads as there are ranks, and of ranks with one thread each under mpirun, in turns, on
 * the same batch. Prints as Markdown: tokens/s of both, their ratio (the efficiency), the bytes that a rank sends in a step over the least
 * that summing and handing out gradients needs, and the memory of a process. docs/distributed.md shows the results.
 *
 * --bandwidth puts two ranks on two hosts that are network namespaces, joined by a link of so many Gbit/s, and prints the efficiency
 * that the model on paper of bench/layouts.js has for it, from the bandwidth and the time of one process. --peer takes turns with
 * PyTorch's DistributedDataParallel over gloo with the same model, in the Python that is named; of PyTorch's wheels any will do.
 */
const {
  addBackendOptions,
  applyBackendOptions,
  command,
  integer,
  start,
  UsageError,
} = require('./lib/command');
const { printRow } = require('./lib/markdown');
const { configOf } = require('./lib/models');
const { efficiencyOnPaper, leastSent } = require('./lib/paper');
const { LAUNCHERS, runAlone, runPeers, runRanks } = require('./lib/rankRuns');
const { median } = require('./lib/stats');
const { TwoHosts } = require('./lib/twoHosts');
const { HIDDEN_512, HIDDEN_768 } = require('./peers/scenarios');

const SEQ = 256;
/** How far the losses of divided experts may be from one process's: of these steps' rounding, in test/training/distributed/experts.test.ts. */
const LOSS_APART = 1e-4;
const MODELS = { small: 'small', hidden512: HIDDEN_512, hidden768: HIDDEN_768 };

start(async () => {
  const options = readOptions();
  applyBackendOptions(options);
  const hosts = options.bandwidth === undefined ? null : await hostsFor(options.bandwidth);
  if (hosts === undefined) return;
  try {
    const columns = columnsOf(options);
    printRow(['model', ...columns.map(([title]) => title)]);
    printRow(['---', ...columns.map(() => '---')]);
    for (const name of options.models.split(',')) {
      const measured = await measure(name, options, hosts);
      printRow([name, ...columns.map(([, cell]) => cell(measured))]);
    }
  } finally {
    hosts?.close();
  }
});

/** @returns {any} */
function readOptions() {
  const program = command('distributed.js', 'Measures training on several ranks.')
    .option(
      '--models <names>',
      `which, with commas between: ${Object.keys(MODELS).join(', ')}`,
      'small,hidden512',
    )
    .option('--tokens <n>', 'tokens of a rank in a step', integer(SEQ), 4096)
    .option('--ranks <n>', 'number of ranks', integer(2, 64), 2)
    .option('--steps <n>', 'timed steps of each run', integer(1, 1000), 3)
    .option('--rounds <n>', 'turns', integer(1, 100), 3)
    .option('--expert-parallel <n>', 'neighbouring ranks that have each expert once', integer(1, 64), 1)
    .option(
      '--gradient-checkpointing',
      'keep the inputs of blocks alone: both ranks of a large model fit into one machine',
    )
    .option('--launcher <command>', Object.keys(LAUNCHERS).join(' or '), 'mpirun.openmpi')
    .option('--bandwidth <gbit>', 'two hosts, joined by a link of so many Gbit/s', integer(1, 1000))
    .option('--peer <python>', 'a Python with PyTorch, whose DistributedDataParallel takes turns');
  /** @type {any} */
  const options = addBackendOptions(program).parse().opts();
  const unknown = options.models.split(',').find((name) => !(name in MODELS));
  if (unknown !== undefined) throw new UsageError(`--models: there is no ${unknown}.`);
  if (!(options.launcher in LAUNCHERS)) throw new UsageError(`--launcher: unknown ${options.launcher}.`);
  if (options.ranks % options.expertParallel !== 0)
    throw new UsageError(`--expert-parallel must be a divisor of --ranks (${options.ranks}).`);
  if (options.bandwidth !== undefined && options.ranks !== 2)
    throw new UsageError('--bandwidth: two hosts have --ranks 2.');
  return options;
}

/** Two hosts with such a link; undefined, after a sentence, where this machine can't have them. */
async function hostsFor(bandwidth) {
  const obstacle = TwoHosts.obstacle();
  if (obstacle !== null) {
    process.stderr.write(`distributed: skipped, since this machine has no two hosts: ${obstacle}\n`);
    return undefined;
  }
  const hosts = await TwoHosts.make();
  hosts.limit(bandwidth);
  return hosts;
}

/** Times one process, ranks and the peer in turns. */
async function measure(name, options, hosts) {
  const { tokens, ranks, expertParallel, steps, rounds, launcher, gradientCheckpointing, peer } = options;
  const sequences = Math.floor(tokens / SEQ);
  const batch = ranks * sequences;
  const job = { model: MODELS[name], batch, seq: SEQ, microBatches: ranks, gradientCheckpointing, steps };
  const config = configOf(MODELS[name]);
  const peerJob = { config: config.toJSON(), batch, seq: SEQ, steps };
  /** @type {Record<'alone' | 'together' | 'peer', any[]>} */
  const runs = { alone: [], together: [], peer: [] };
  for (let round = 0; round < rounds; round++) {
    runs.alone.push(await runAlone(job, ranks));
    runs.together.push(await runRanks({ ...job, expertParallel }, { ranks, launcher, hosts }));
    if (peer !== undefined) runs.peer.push(await runPeers(peerJob, { ranks, python: peer, hosts }));
  }
  const apart = Math.abs(runs.together[0].loss / runs.alone[0].loss - 1);
  if (!(apart <= (expertParallel === 1 ? 0 : LOSS_APART)))
    throw new Error(`${name}: ranks end at another loss than one process`);
  if (peer !== undefined && runs.peer[0].parameters !== runs.together[0].parameters)
    throw new Error(`${name}: the peer has ${runs.peer[0].parameters} parameters`);
  const layout = { ranks, expertParallel, gradientCheckpointing };
  const least = leastSent(config, { ...layout, tokens: sequences * SEQ });
  return { runs, batchTokens: batch * SEQ, ranks, least };
}

const gb = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
const rateOf = ({ batchTokens }, run) => (1000 * batchTokens) / median(run.times);
/** The median over the turns of a's tokens/s over b's. */
function ratio(measured, a, b) {
  const { runs } = measured;
  return median(
    runs[a].map((run, round) => rateOf(measured, run) / rateOf(measured, runs[b][round])),
  ).toFixed(2);
}
const rate = (measured, key) => median(measured.runs[key].map((run) => rateOf(measured, run))).toFixed(0);

/** Titles, and what is below them. */
function columnsOf({ ranks, expertParallel, bandwidth, peer }) {
  const all = [
    expertParallel > 1 && ['layout', () => `experts over ${expertParallel}`],
    ['tokens a rank', (m) => m.batchTokens / m.ranks],
    ['one process, tokens/s', (m) => rate(m, 'alone')],
    [`${ranks} ranks, tokens/s`, (m) => rate(m, 'together')],
    ['efficiency', (m) => ratio(m, 'together', 'alone')],
    bandwidth && [`on paper at ${bandwidth} Gbit/s`, (m) => onPaper(m, bandwidth)],
    ['sent by a rank, MB a step', (m) => (m.runs.together[0].sentBytes / 1e6).toFixed(1)],
    ['over the least', (m) => (m.runs.together[0].sentBytes / m.least.sentBytes).toFixed(3)],
    ['memory, one process', (m) => gb(m.runs.alone[0].memoryBytes)],
    ['memory, a rank', (m) => gb(m.runs.together[0].memoryBytes)],
    peer && ['PyTorch DDP, tokens/s', (m) => rate(m, 'peer')],
    peer && ['ours over it', (m) => ratio(m, 'together', 'peer')],
  ];
  return all.filter((column) => Array.isArray(column));
}

/** What one process takes for the batch, a rank alone takes for its part. */
function onPaper({ runs, least }, gbitPerSecond) {
  const computeS = median(runs.alone.map(({ times }) => median(times))) / 1000;
  return efficiencyOnPaper({ ...least, computeS, gbitPerSecond }).toFixed(2);
}
