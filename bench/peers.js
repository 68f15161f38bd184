'use strict';
/**
 * node bench/peers.js [--python command] [--forms eager,compile] [--precisions float32,bfloat16] [--threads 1,2] [--trials n] [--rounds n]
 *                     [--all] [--filter text] [--limit s] [--out file]
 *
 * Times this library and its peers alternately, in one session, and prints a Markdown table of ratios. Peers are those that
 * the Python has: NumPy, PyTorch, and of --all transformers. PyTorch begins with our weights and has to come to our loss and gradient
 * norm before it is timed, eager and compiled, in float32 and bfloat16. docs/performance.md shows the results.
 */
const fs = require('node:fs');
const os = require('node:os');
const {
  MOST_RUNS,
  UsageError,
  addBackendOption,
  addThreadCountsOption,
  applyBackendOptions,
  checkWritable,
  command,
  integer,
  messageOf,
  someOf,
  start,
} = require('./lib/command');

const DEFAULT_TRIALS = 50;
const DEFAULT_ROUNDS = 10;
const DEFAULT_LIMIT_S = 600;
const PRECISIONS = ['float32', 'bfloat16'];
/**
 * How far a peer's loss and gradient norm may be from ours, relatively. In float32 rounding and the orders of sums differ, and a token whose
 * two best experts are as good to the last bits may go to the other one: of 2,048 tokens one is a share of 5e-4 of the gradient, and has moved its
 * norm by 1.4e-4. In bfloat16 each operand is off by up to 2^-8, and more tokens go to other experts.
 */
const TOLERANCES = { float32: [1e-4, 5e-4], bfloat16: [0.02, 0.02] };
/** PyTorch keeps more for its backward, and copies of the weights in bfloat16. */
const MOST_OVER_OURS = 1.5;

start(main);

async function main() {
  const options = readOptions();
  applyBackendOptions({ backend: options.backend });
  const scenarios = choose(options);
  const { Weights } = require('./peers/weights');
  const weights = new Weights();
  try {
    const report = { metadata: metadata(options), scenarios: await run(scenarios, weights, options) };
    process.stdout.write(require('./peers/table').markdownTable(report));
    if (options.out !== undefined) fs.writeFileSync(options.out, `${JSON.stringify(report, null, 2)}\n`);
  } finally {
    weights.remove();
  }
}

/** @returns {any} */
function readOptions() {
  const { FORMS } = require('./peers/members');
  const program = command('peers.js', 'Times this library and its peers in turn; prints a table of ratios.')
    .option('--python <command>', 'the Python to look for NumPy, PyTorch and transformers in', 'python3')
    .option('--forms <list>', "PyTorch's forms", someOf(FORMS), FORMS)
    .option('--precisions <list>', `of ${PRECISIONS.join(', ')}`, someOf(PRECISIONS), ['float32'])
    .option('--trials <n>', 'timed trials of each scenario and peer', integer(1, MOST_RUNS), DEFAULT_TRIALS)
    .option('--rounds <n>', 'turns into which the trials are divided', integer(1, MOST_RUNS), DEFAULT_ROUNDS)
    .option('--filter <text>', 'only scenarios whose id contains the text; several with commas between')
    .option('--all', 'also the models of hidden 512 and 768: an hour or more, and 15 GB', false)
    .option(
      '--limit <s>',
      'seconds after which a peer that prepares a scenario, or has its turn, is left out of it',
      integer(1),
      DEFAULT_LIMIT_S,
    )
    .option('--out <file>', 'write all figures there, as JSON');
  addBackendOption(addThreadCountsOption(program)).parse();
  const options = program.opts();
  if (options.out !== undefined) checkWritable('--out', options.out);
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

function metadata({ trials, rounds }) {
  const { metadataOf } = require('./lib/metadata');
  const { WARMUP } = require('./peers/compare');
  return { ...metadataOf({ trials, warmup: WARMUP }), n_rounds: rounds };
}

/** Compares in each number of threads, and for each scenario in each precision that it has. */
async function run(scenarios, weights, options) {
  const { Progress } = require('./lib/progress');
  const { hasPrecisions } = require('./peers/scenarios');
  const { startMembers } = require('./peers/members');
  const cases = scenarios.flatMap((scenario) =>
    options.precisions
      .filter((precision) => precision === 'float32' || hasPrecisions(scenario))
      .map((precision) => ({ ...scenario, precision })),
  );
  const progress = new Progress(cases.length * options.threads.length);
  const results = [];
  for (const threads of options.threads) {
    const members = await startMembers({ ...options, threads }, scenarios, say);
    try {
      for (const scenario of cases) {
        const result = await compareCase(scenario, members, weights, options);
        if (result === null) continue;
        results.push(result);
        progress.done(`${scenario.id} ${scenario.precision}`, result.figures.ours.median_ns);
      }
    } finally {
      await Promise.all(members.map(({ session }) => session?.close()));
    }
  }
  progress.end();
  return results;
}

/** One row, or null, after a sentence, where the memory is too small for it. */
async function compareCase(scenario, members, weights, { trials, rounds }) {
  const { compareOn } = require('./peers/compare');
  const { membersOf } = require('./peers/members');
  const taking = membersOf(scenario, scenario.precision, members);
  const { id, precision } = scenario;
  const needed = bytesOf(scenario);
  const free = os.freemem();
  if (needed > free) {
    say(`${id} is left out: it needs ${gb(needed)} of memory, and ${gb(free)} are free`);
    return null;
  }
  const alone = taking.length * needed > free;
  if (alone) {
    const all = `${taking.length} processes of up to ${gb(needed)}`;
    say(`${id}: ${all} don't fit into ${gb(free)}, so each begins anew in its turn and ends after it`);
  }
  const folder = taking.some(({ sameWeights, form }) => sameWeights && form)
    ? weights.of(scenario)
    : undefined;
  const plan = { trials, rounds, alone, tolerances: TOLERANCES[precision] };
  return compareOn({ ...scenario, weights: folder }, taking, plan, (key, error) => {
    const sentence = `${id} failed, ${messageOf(error)}`;
    if (key === 'ours') throw new Error(sentence);
    say(`${key}: ${sentence}`);
  });
}

/** The most that a member takes for a model. */
function bytesOf({ config, work, batch, seq }) {
  if (config === undefined) return 0;
  const { memoryBytes, ModelConfig } = require('..');
  const mode = work === 'train' ? 'train' : 'forward';
  return MOST_OVER_OURS * memoryBytes(ModelConfig.fromJSON(config), { mode, batch, seq }).total;
}

const gb = (bytes) => `${(bytes / 1e9).toFixed(1)} GB`;

function say(sentence) {
  process.stderr.write(`peers: ${sentence}\n`);
}
