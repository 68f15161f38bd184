'use strict';
/**
 * node bench/gguf.js <model.gguf> --llama <folder> [--dtype type] [--threads n] [--prompt n] [--tokens n] [--sequences n,n]
 *                    [--rounds n]
 *
 * Prompts and decoding of one GGUF file here and in llama.cpp, which npm's node-llama-cpp carries: install it in a folder
 * of its own (npm install node-llama-cpp --ignore-scripts) and name that folder. Both processes stay warm and are timed in
 * turns; prints Markdown: tokens/s of each (median of the rounds) and the median of the rounds' ratios.
 */
const fs = require('node:fs');
const path = require('node:path');
const {
  MOST_RUNS,
  UsageError,
  addBackendOptions,
  applyBackendOptions,
  command,
  integer,
  start,
} = require('./lib/command');
const { median } = require('./lib/stats');

const PEERS = path.join(__dirname, 'peers');

start(main);

async function main() {
  const { file, options } = readOptions();
  applyBackendOptions(options);
  const { Session } = require('./peers/session');
  const { peerEnvironment } = require('./peers/environment');
  const ours = await Session.start(process.execPath, [path.join(PEERS, 'ggufOurs.js')], process.env);
  const threads = ours.hello.threads;
  const program = [path.join(PEERS, 'ggufLlama.mjs'), path.resolve(options.llama), String(threads)];
  const theirs = await Session.start(
    process.execPath,
    program,
    peerEnvironment({ threads, blas_core: null }),
  );
  try {
    process.stdout.write(head(ours.hello, theirs.hello));
    for (const work of worksOf(options)) {
      const scenario = { ...work, file: path.resolve(file), dtype: options.dtype };
      process.stdout.write(row(scenario, threads, await measure([ours, theirs], scenario, options.rounds)));
    }
  } finally {
    await Promise.all([ours.close(), theirs.close()]);
  }
}

/** @returns {any} */
function readOptions() {
  const program = command('gguf.js', 'Times prompts and decoding of a GGUF file, here and in llama.cpp.')
    .argument('<file>', 'the model')
    .requiredOption('--llama <folder>', 'a folder in which node-llama-cpp is installed')
    .option('--dtype <type>', 'how our weights are kept (see MoETransformer.load)', 'stored')
    .option('--prompt <n>', 'tokens of the prompt', integer(1, 100_000), 512)
    .option('--tokens <n>', 'tokens that are decoded', integer(1, 100_000), 32)
    .option('--sequences <list>', 'how many sequences are decoded at once, with commas between', '1')
    .option('--rounds <n>', 'turns', integer(1, MOST_RUNS), 7);
  addBackendOptions(program).parse();
  const [file] = program.args;
  const options = program.opts();
  if (!fs.existsSync(file)) throw new UsageError(`${file}: there is no such file.`);
  if (!fs.existsSync(path.join(options.llama, 'node_modules/node-llama-cpp'))) {
    throw new UsageError(`--llama ${options.llama}: node-llama-cpp isn't installed there.`);
  }
  return { file, options };
}

/** The prompt, then decoding behind a short one. */
function worksOf({ prompt, tokens, sequences }) {
  const counts = sequences.split(',').map(Number);
  if (!counts.every((count) => Number.isInteger(count) && count > 0)) {
    throw new UsageError(`--sequences ${sequences}: expected positive integers with commas between.`);
  }
  return [
    { work: 'prompt', tokens: prompt, sequences: 1 },
    ...counts.map((count) => ({ work: 'decode', tokens, sequences: count })),
  ];
}

/** Nanoseconds of a run, of each member in each round. */
async function measure(members, scenario, rounds) {
  for (const member of members) await member.prepare(scenario, 1);
  const timings = members.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, member] of members.entries()) {
      timings[i].push(...(await member.block({ trials: 1, inner: 1, untimed: 0 })));
    }
  }
  for (const member of members) await member.drop();
  return timings;
}

function head(ours, theirs) {
  const cells = [
    'work',
    'tokens',
    'sequences',
    'threads',
    ours.name,
    `${theirs.name} ${theirs.version}`,
    'ours / theirs',
  ];
  return `${line(cells)}${line(cells.map((_, i) => (i === 0 ? '---' : '---:')))}`;
}

function row({ work, tokens, sequences }, threads, [ours, theirs]) {
  const rate = (times) => (tokens * sequences * 1e9) / median(times);
  const ratio = median(ours.map((time, i) => theirs[i] / time));
  return line([
    work,
    tokens,
    sequences,
    threads,
    `${rate(ours).toFixed(1)} tokens/s`,
    `${rate(theirs).toFixed(1)} tokens/s`,
    ratio.toFixed(2),
  ]);
}

function line(cells) {
  return `| ${cells.join(' | ')} |\n`;
}
