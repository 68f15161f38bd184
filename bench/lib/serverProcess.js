'use strict';
/** The server process of bench/serve.js, bench/neighbours.js and bench/faults.js. It tells its url and, when asked, its memory. */
const { setTimeout: sleep } = require('node:timers/promises');
const { LOADED } = require('./loadedModel');
const { quantile, sort } = require('./stats');

const TIMER_MS = 10;

/** The loaded model, one with a tokenizer that has merges and a template, and a tiny one for tests that aren't about computing. */
const MODELS = {
  loaded: LOADED,
  merges: { ...LOADED, vocabSize: 512 },
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
  const tokenizer = model === 'merges' ? await tokenizerWithTemplate() : new ByteTokenizer();
  const engine = await Engine.create(MoETransformer.create(MODELS[model]), tokenizer, { maxBatch });
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

/** A tokenizer whose template takes ten billion steps for a conversation that begins with 'loop'. */
async function tokenizerWithTemplate() {
  const { HuggingFaceTokenizer, trainBpe } = require('../..');
  const texts = [
    'the cat sat on the mat and the rat ran to the hat. '.repeat(20),
    'abcdefghijklmnopqrstuvwxyz'.repeat(20),
  ];
  const trained = await trainBpe(texts, { vocabSize: MODELS.merges.vocabSize });
  const loop = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}';
  const chatTemplate = `{% if messages[0].content == 'loop' %}${loop}{% endif %}{{ messages[0].content }}`;
  return new HuggingFaceTokenizer(trained.toJSON(), { ...trained.files(), chatTemplate });
}
