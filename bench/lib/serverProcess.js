'use strict';
/** The server process of bench/serve.js and bench/faults.js. It tells its url and, when asked, its memory. */
const { setTimeout: sleep } = require('node:timers/promises');
const { LOADED } = require('./loadedModel');
const { quantile, sort } = require('./stats');

const TIMER_MS = 10;

/** The loaded model, and a tiny one for tests that aren't about computing. */
const MODELS = {
  loaded: LOADED,
  tiny: {
    ...LOADED,
    hiddenDim: 64,
    nLayers: 2,
    nHeads: 2,
    nKvHeads: 1,
    headDim: 32,
    ffnDim: 64,
    maxSeqLen: 128,
  },
};

/** Milliseconds by which each 10 ms timer since the last question fired too late. */
let late = [];

main(JSON.parse(process.argv[2]));

/** @param {{ model: keyof typeof MODELS, maxBatch: number }} options */
async function main({ model, maxBatch }) {
  const { ByteTokenizer, Engine, MoETransformer, serve } = require('../..');
  const engine = await Engine.create(MoETransformer.create(MODELS[model]), new ByteTokenizer(), { maxBatch });
  const { url } = await serve({ engine, port: 0 });
  process.on('message', () => {
    const delay = late.length === 0 ? 0 : quantile(sort(late), 0.99);
    late = [];
    process.send?.({ memory: process.memoryUsage.rss(), delay });
  });
  process.on('disconnect', () => process.exit());
  process.send?.({ url });
  for (;;) {
    const started = performance.now();
    await sleep(TIMER_MS);
    late.push(performance.now() - started - TIMER_MS);
  }
}
