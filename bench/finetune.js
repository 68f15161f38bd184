'use strict';
/**
 * node bench/finetune.js [--venv folder] [--dtype type] [--trials n] [--rounds n] [--threads n] [--filter text] [--out file]
 *
 * Times a step of training adapters on attention, router and all experts of a small mixture: on a float32 base, on the same base in
 * fewer bits, and with --venv in Python's peft on transformers and PyTorch, in turns, from the same weights, adapters and batch.
 * It first checks that all of them come to the same loss.
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const {
  MOST_RUNS,
  addBackendOptions,
  applyBackendOptions,
  checkWritable,
  command,
  integer,
  messageOf,
  start,
} = require('./lib/command');

const FOLDER = path.join(__dirname, 'peers');
/** With all that they ask for, on Linux CUDA's libraries, too: 5 GB. */
const PACKAGES = ['torch==2.15.0', 'transformers==5.24.0', 'peft==0.21.2'];
/** Steps after which the losses are compared: both matrices of an adapter have changed. */
const COMPARED_STEPS = 3;
/** Rounding differs, and so do the orders of sums. */
const SAME_LOSS = 1e-4;
/** So small that rounding does not send tokens to other experts within the compared steps. */
const LR = 1e-4;
/** Untimed steps: of each model, and before each turn. */
const COUNTS = { warmup: 2, untimed: 1 };

const COMMON = { nLayers: 4, nHeads: 8, nKvHeads: 4, nExperts: 8, topKExperts: 2 };
const MODELS = [
  {
    id: 'adapters_64',
    config: { ...COMMON, hiddenDim: 64, headDim: 8, ffnDim: 128, vocabSize: 512, maxSeqLen: 64 },
    rank: 4,
    batch: 2,
    seq: 32,
  },
  {
    id: 'adapters_256',
    config: { ...COMMON, hiddenDim: 256, headDim: 32, ffnDim: 512, vocabSize: 4096, maxSeqLen: 256 },
    rank: 8,
    batch: 4,
    seq: 128,
  },
  {
    id: 'adapters_512',
    config: { ...COMMON, hiddenDim: 512, headDim: 64, ffnDim: 1024, vocabSize: 8192, maxSeqLen: 512 },
    rank: 16,
    batch: 2,
    seq: 256,
  },
];

/**
 * @typedef {object} AdapterScenario
 * @property {string} id
 * @property {string} base folder of the model, as transformers reads it
 * @property {string} adapter folder of the adapters that all begin with
 * @property {number} batch
 * @property {number} seq
 * @property {number} lr
 * @property {number} inner
 * @property {boolean} long
 * @property {import('./peers/scenarios').PeerName[]} peers none by name: all members take part
 */

start(main);

async function main() {
  const options = readOptions();
  applyBackendOptions(options);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sgemoe-finetune-'));
  try {
    const scenarios = [];
    const chosen = MODELS.filter(({ id }) => id.includes(options.filter ?? ''));
    for (const model of chosen) scenarios.push(await write(model, folder));
    const bytes = [];
    for (const { id, base } of scenarios) bytes.push(await bytesOf(id, base, options.dtype));
    const report = await compare(scenarios, options);
    process.stdout.write(require('./peers/table').markdownTable(report));
    for (const { id, stored, float } of bytes) {
      const share = (stored / float).toFixed(3);
      process.stdout.write(
        `${id}: weights of ${stored} bytes in ${options.dtype}, ${float} in float32: ${share}\n`,
      );
    }
    if (options.out !== undefined) {
      fs.writeFileSync(options.out, `${JSON.stringify({ ...report, bytes }, null, 2)}\n`);
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** @returns {any} */
function readOptions() {
  const program = command('finetune.js', "Times a step of adapters, ours and peft's in turn.")
    .option('--venv <folder>', 'environment of Python with peft; made if the folder is not there')
    .option('--dtype <type>', 'type of the matrices of the base in fewer bits', 'q4_0')
    .option('--trials <n>', 'timed steps of each', integer(1, MOST_RUNS), 20)
    .option('--rounds <n>', 'turns into which they are divided', integer(1, MOST_RUNS), 10)
    .option('--filter <text>', 'only models whose id contains the text')
    .option('--out <file>', 'write all figures there, as JSON');
  const options = addBackendOptions(program).parse().opts();
  if (options.out !== undefined) checkWritable('--out', options.out);
  return options;
}

/** Writes a random model and its first adapters. @returns {Promise<AdapterScenario>} */
async function write({ id, config, rank, batch, seq }, folder) {
  const { exportHuggingFace, ModelConfig, MoETransformer, saveLora } = require('..');
  const { SEED } = require('./lib/models');
  const model = MoETransformer.create(new ModelConfig(config), { seed: SEED });
  const [base, adapter] = ['base', 'adapter'].map((name) => path.join(folder, id, name));
  await exportHuggingFace(base, model, { architecture: 'mixtral' });
  model.addLora({ targets: ['all'], rank, seed: SEED });
  await saveLora(adapter, model, { base });
  return { id, base, adapter, batch, seq, lr: LR, inner: 1, long: false, peers: [] };
}

async function bytesOf(id, base, dtype) {
  const { MoETransformer } = require('..');
  const [stored, float] = [dtype, 'float32'].map(async (type) => {
    const { resident, mapped } = (await MoETransformer.load(base, { dtype: type })).weightBytes;
    return resident + mapped;
  });
  return { id, stored: await stored, float: await float };
}

async function compare(scenarios, options) {
  const { metadataOf } = require('./lib/metadata');
  const { compareOn } = require('./peers/compare');
  const members = await startMembers(options);
  try {
    const results = [];
    for (const scenario of scenarios) {
      await requireSameLoss(scenario, members);
      const failed = (key, error) => {
        throw new Error(`${key}: ${scenario.id} failed, ${messageOf(error)}`);
      };
      results.push(await compareOn(scenario, members, { ...COUNTS, ...options }, failed));
    }
    const metadata = {
      ...metadataOf({ trials: options.trials, warmup: COUNTS.warmup }),
      n_rounds: options.rounds,
    };
    return { metadata, scenarios: results };
  } finally {
    await Promise.all(members.map(({ session }) => session.close()));
  }
}

async function startMembers({ dtype, venv }) {
  const { Session } = require('./peers/session');
  const { peerEnvironment } = require('./peers/environment');
  const environment = { ...process.env, NODE_NO_WARNINGS: '1' };
  const ours = (type) =>
    Session.start(process.execPath, [path.join(FOLDER, 'oursAdapters.js'), type], environment);
  const float = await ours('float32');
  /** @type {{ key: string, session: InstanceType<typeof Session> }[]} */
  const members = [{ key: 'ours', session: float }];
  members.push({ key: dtype, session: await ours(dtype) });
  if (venv === undefined) return members;
  const python = pythonIn(path.resolve(venv));
  const args = [path.join(FOLDER, 'peft_peer.py')];
  members.push({
    key: 'peft',
    session: await Session.start(python, args, peerEnvironment(float.hello)),
  });
  return members;
}

/** The Python of an environment with peft, which is made if it isn't there. */
function pythonIn(folder) {
  const python = path.join(folder, 'bin', 'python');
  if (fs.existsSync(python)) return python;
  const run = (file, ...args) => execFileSync(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  run('python3', '-m', 'venv', folder);
  run(python, '-m', 'pip', 'install', '--quiet', ...PACKAGES);
  return python;
}

/** @throws Error if a member with a float32 base comes to another loss than ours after some steps. */
async function requireSameLoss(scenario, members) {
  const losses = new Map();
  for (const { key, session } of members) {
    losses.set(key, (await session.prepare(scenario, COMPARED_STEPS)).value);
    await session.drop();
  }
  const [ours, peft] = [losses.get('ours'), losses.get('peft')];
  if (peft !== undefined && !(Math.abs(peft - ours) <= SAME_LOSS * ours)) {
    throw new Error(
      `${scenario.id}: the losses differ after ${COMPARED_STEPS} steps, ${ours} and peft's ${peft}`,
    );
  }
}
