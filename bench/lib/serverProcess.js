'use strict';
/** A server in a process of its own, for bench/serve.js and bench/faults.js: tells its url, and its memory when asked. */
const { setTimeout: sleep } = require('node:timers/promises');
const { quantile, sort } = require('./stats');

const TIMER_MS = 10;

/** 150 MB of weights, a step takes milliseconds; and one for what isn't about computing. */
const LOADED = {
  ...{ hiddenDim: 512, nLayers: 4, nHeads: 8, nKvHeads: 2, headDim: 64 },
  ...{ nExperts: 8, topKExperts: 2, ffnDim: 768, vocabSize: 256, maxSeqLen: 1024 },
};
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

/** How many milliseconds late each 10 ms timer has fired since the last question. */
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
