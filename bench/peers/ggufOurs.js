'use strict';
/** This library's side of bench/gguf.js; the conversation is that of serving.py. */
const readline = require('node:readline');
const { Decoder, MoETransformer, backendInfo } = require('../..');
const { CONTEXT, tokensOf } = require('./ggufTokens');

let run;
/** The last model, which the next scenario probably wants too. */
/** @type {{ key: string, model: any }} */
let loaded = { key: '', model: null };

answer({ name: 'sgemoe', version: require('../../package.json').version, threads: backendInfo().threads });
let queue = Promise.resolve();
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  queue = queue.then(async () => {
    try {
      answer(await handle(JSON.parse(line)));
    } catch (error) {
      answer({ error: String(error) });
    }
  });
});

async function handle({ op, scenario, warmup, trials }) {
  if (op === 'block') return { timings_ns: Array.from({ length: trials }, run) };
  run = op === 'prepare' ? await prepare(scenario) : undefined;
  for (let i = 0; run !== undefined && i < warmup; i++) run();
  return {};
}

/** @returns {Promise<() => number>} a run, which tells its nanoseconds */
async function prepare({ file, dtype, work, tokens, sequences }) {
  const model = await load(file, dtype);
  if (work === 'prompt') {
    const decoder = new Decoder(model, { slots: 1, contextLength: tokens });
    const prompt = Int32Array.from(tokensOf(tokens, 0));
    const logits = new Float32Array(model.config.vocabSize);
    return timed(
      () => decoder.truncate(0, 0),
      () => decoder.prefill(0, prompt, logits),
    );
  }
  return decoding(model, tokens, sequences);
}

function decoding(model, tokens, sequences) {
  const decoder = new Decoder(model, { slots: sequences, contextLength: CONTEXT + tokens });
  for (let slot = 0; slot < sequences; slot++)
    decoder.prefill(slot, Int32Array.from(tokensOf(CONTEXT, slot)));
  const { vocabSize } = model.config;
  const logits = new Float32Array(sequences * vocabSize);
  const rows = Array.from({ length: sequences }, (_, slot) => ({ slot, tokens: [0], wantLogits: true }));
  return timed(
    () => {
      for (const row of rows) {
        decoder.truncate(row.slot, CONTEXT);
        row.tokens = [tokensOf(1, row.slot)[0]];
      }
    },
    () => {
      for (let i = 0; i < tokens; i++) {
        decoder.step(rows, { logits });
        for (const [at, row] of rows.entries()) row.tokens = [argmax(logits, at * vocabSize, vocabSize)];
      }
    },
  );
}

function timed(before, work) {
  return () => {
    before();
    const start = process.hrtime.bigint();
    work();
    return Number(process.hrtime.bigint() - start);
  };
}

function argmax(values, at, length) {
  let best = at;
  for (let i = at; i < at + length; i++) if (values[i] > values[best]) best = i;
  return best - at;
}

async function load(file, dtype) {
  const key = `${file} ${dtype}`;
  if (loaded.key !== key) {
    loaded = { key: '', model: null };
    const model = await MoETransformer.load(file, /** @type {any} */ ({ dtype }));
    model.freeze();
    loaded = { key, model };
  }
  return loaded.model;
}

function answer(content) {
  process.stdout.write(`${JSON.stringify(content)}\n`);
}
