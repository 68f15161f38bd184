'use strict';
/**
 * node bench/peers.js [--trials n] [--rounds n] [--threads n] [--all] [--filter text] [--python command]
 *                     [--torch file] [--out file]
 *
 * Times this library and its peers alternately, in one session, and prints a Markdown table of ratios. Peers are those that
 * are found: python3 with NumPy, and with --torch an eager PyTorch model. docs/performance.md shows the results.
 */
const fs = require('node:fs');
const path = require('node:path');
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

const DEFAULT_TRIALS = 50;
const DEFAULT_ROUNDS = 10;
const FOLDER = path.join(__dirname, 'peers');

start(main);

async function main() {
  const options = readOptions();
  applyBackendOptions(options);
  const scenarios = choose(options);
  const members = await startMembers(options);
  try {
    const report = await run(scenarios, members, options);
    process.stdout.write(require('./peers/table').markdownTable(report));
    if (options.out !== undefined) fs.writeFileSync(options.out, `${JSON.stringify(report, null, 2)}\n`);
  } finally {
    await Promise.all(members.map(({ session }) => session.close()));
  }
}

/** @returns {any} */
function readOptions() {
  const program = command('peers.js', 'Times this library and its peers in turn; prints a table of ratios.')
    .option('--trials <n>', 'timed trials of each scenario and peer', integer(1, MOST_RUNS), DEFAULT_TRIALS)
    .option('--rounds <n>', 'turns into which the trials are divided', integer(1, MOST_RUNS), DEFAULT_ROUNDS)
    .option('--filter <text>', 'only scenarios whose id contains the text; several with commas between')
    .option('--all', 'also the model of hidden 512: minutes, and several GB', false)
    .option('--python <command>', 'the Python to look for peers in', 'python3')
    .option('--torch <file>', 'a torch_moe.py: the PyTorch peer')
    .option('--out <file>', 'write all figures there, as JSON');
  addBackendOptions(program).parse();
  const options = program.opts();
  if (options.out !== undefined) checkWritable('--out', options.out);
  if (options.torch !== undefined && !fs.existsSync(options.torch)) {
    throw new UsageError(`--torch ${options.torch}: there is no such file.`);
  }
  return options;
}

/** @returns {import('./peers/scenarios').PeerScenario[]} */
function choose({ all, filter }) {
  const { LARGE, STANDARD } = require('./peers/scenarios');
  const known = all ? [...STANDARD, ...LARGE] : STANDARD;
  const wanted = filter?.split(',').filter(Boolean);
  const chosen = known.filter(({ id }) => wanted === undefined || wanted.some((text) => id.includes(text)));
  if (chosen.length > 0) return chosen;
  throw new UsageError(
    `--filter ${filter} matches no scenario. They are: ${known.map(({ id }) => id).join(', ')}.`,
  );
}

/**
 * Starts our process, then those of the available peers, with the same number of threads.
 * @returns {Promise<import('./peers/compare').Member[]>}
 */
async function startMembers({ python, torch }) {
  const { Session } = require('./peers/session');
  const { peerEnvironment } = require('./peers/environment');
  const ours = await Session.start(process.execPath, [path.join(FOLDER, 'ours.js')], {
    ...process.env,
    NODE_NO_WARNINGS: '1',
  });
  const members = [{ key: 'ours', session: ours }];
  const peers = [{ key: 'numpy', name: 'NumPy', args: [path.join(FOLDER, 'numpy_peer.py')] }];
  if (torch !== undefined) {
    const args = [path.join(FOLDER, 'torch_peer.py'), path.resolve(torch)];
    peers.push({ key: 'torch', name: 'PyTorch', args });
  }
  for (const { key, name, args } of peers) {
    try {
      members.push({ key, session: await Session.start(python, args, peerEnvironment(ours.hello)) });
    } catch (error) {
      say(`${name} is left out, ${error instanceof Error ? error.message : error}`);
    }
  }
  return members;
}

async function run(scenarios, members, { trials, rounds }) {
  const { metadataOf } = require('./lib/metadata');
  const { Progress } = require('./lib/progress');
  const { WARMUP, compareOn } = require('./peers/compare');
  const metadata = { ...metadataOf({ trials, warmup: WARMUP }), n_rounds: rounds };
  const names = Object.fromEntries(members.map(({ key, session }) => [key, session.hello]));
  const progress = new Progress(scenarios.length);
  const results = [];
  for (const scenario of scenarios) {
    const result = await compareOn(scenario, members, { trials, rounds }, (key, error) => {
      const sentence = `${scenario.id} failed, ${error instanceof Error ? error.message : error}`;
      if (key === 'ours') throw new Error(sentence);
      say(`${names[key].name}: ${sentence}`);
    });
    results.push(result);
    progress.done(scenario.id, result.figures.ours.median_ns);
  }
  progress.end();
  return { metadata, members: names, scenarios: results };
}

function say(sentence) {
  process.stderr.write(`peers: ${sentence}\n`);
}
