'use strict';
/**
 * node bench/speculate.js <model> [--tokens n] [--rounds n] [--guesses n,n] [--streams n,n]
 *
 * Measures guessed tokens (speculateTokens) on a chat model: an answer that copies its prompt, one that edits a program and one
 * that is free, greedily. Engines with and without guesses answer in turns. Prints as Markdown, by task and number of streams, the
 * tokens/s without guesses, and for each number of guesses the median ratio of the rounds and the part of the guesses that was right.
 */
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');
const { printRow } = require('./lib/markdown');
const { median } = require('./lib/stats');

const TEXT =
  'The lighthouse stands on a rock two miles from the harbour. Its keeper counts the ships that pass by day and writes ' +
  'their names in a book by night. In winter the sea covers the rock, and the keeper climbs to the lamp and waits there ' +
  'until the water falls. The boat from the harbour comes once a month with bread, oil and letters.';

const PROGRAM = `function average(values) {
  let sum = 0;
  for (const value of values) {
    sum += value;
  }
  return sum / values.length;
}

function spread(values) {
  const middle = average(values);
  let sum = 0;
  for (const value of values) {
    sum += (value - middle) ** 2;
  }
  return Math.sqrt(sum / values.length);
}`;

const TASKS = {
  copy: `Repeat this text word for word:\n\n${TEXT}`,
  edit: `Rename the variable sum to total in this program, and write the whole program:\n\n${PROGRAM}`,
  free: 'Tell me a story about a keeper of a lighthouse.',
};

start(async () => {
  const program = command('speculate.js', 'Measures guessed tokens.')
    .argument('<model>', 'a chat model: a folder or a GGUF file')
    .option('--tokens <n>', 'tokens of an answer', integer(1, 4096), 120)
    .option('--rounds <n>', 'turns', integer(1, 100), 5)
    .option('--guesses <list>', 'numbers of guesses, with commas between', '4,8,16')
    .option('--streams <list>', 'how many answers are written at once, with commas between', '1,8')
    .option('--dtype <type>', 'how the weights are kept (see MoETransformer.load)', 'stored');
  addBackendOptions(program).parse();
  /** @type {any} */
  const options = program.opts();
  applyBackendOptions(options);
  const guesses = options.guesses.split(',').map(Number);
  const engines = await openEngines(program.args[0], options.dtype, [0, ...guesses]);
  printRow(['task', 'streams', 'tokens/s', ...guesses.map((n) => `${n} guesses: ratio, right`)]);
  printRow(['---', ...guesses.map(() => '---:'), '---:', '---:']);
  for (const [task, text] of Object.entries(TASKS)) {
    for (const streams of options.streams.split(',').map(Number)) {
      printRow([task, streams, ...(await measure(engines, text, streams, options))]);
    }
  }
  await Promise.all(engines.map((engine) => engine.close()));
});

/** Engines of one model, the first without guesses. */
async function openEngines(path, dtype, guesses) {
  const { Engine, MoETransformer, readTokenizer } = require('..');
  const model = await MoETransformer.load(path, /** @type {any} */ ({ dtype }));
  const tokenizer = await readTokenizer(path);
  const options = { maxBatch: 16, contextLength: Math.min(1024, model.config.maxSeqLen) };
  /** @type {any[]} */
  const engines = [];
  for (const speculateTokens of guesses) {
    engines.push(await Engine.create(model, tokenizer, { ...options, speculateTokens }));
  }
  return engines;
}

/** The cells of a row. */
async function measure(engines, text, streams, { tokens, rounds }) {
  /** @type {number[][]} */
  const rates = [];
  for (const engine of engines) await answer(engine, text, streams, tokens);
  const before = engines.map((engine) => engine.metrics().speculation);
  for (let round = 0; round < rounds; round++) {
    /** @type {number[]} */
    const row = [];
    for (const engine of engines) row.push(await answer(engine, text, streams, tokens));
    rates.push(row);
  }
  const after = engines.map((engine) => engine.metrics().speculation);
  const cells = engines.slice(1).map((_, i) => {
    const ratio = median(rates.map((row) => row[i + 1] / row[0]));
    const drafted = after[i + 1].draftedTokens - before[i + 1].draftedTokens;
    const accepted = after[i + 1].acceptedTokens - before[i + 1].acceptedTokens;
    return `${ratio.toFixed(2)}x, ${drafted === 0 ? '-' : `${Math.round((100 * accepted) / drafted)} %`}`;
  });
  return [median(rates.map((row) => row[0])).toFixed(0), ...cells];
}

/** Writes answers at once; returns tokens/s from the first token on. */
async function answer(engine, text, streams, maxTokens) {
  const messages = [{ role: 'user', content: text }];
  let tokens = 0;
  let began = Number.POSITIVE_INFINITY;
  const write = async () => {
    for await (const chunk of engine.stream({ messages, maxTokens, temperature: 0, ignoreEos: true })) {
      began = Math.min(began, performance.now());
      tokens += chunk.tokens.length;
    }
  };
  await Promise.all(Array.from({ length: streams }, write));
  return tokens / ((performance.now() - began) / 1000);
}
