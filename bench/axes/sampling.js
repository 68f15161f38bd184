'use strict';
/** Times the choice of one token from the logits of a large vocabulary, by every strategy. */
const { GreedySampling, RandomSampling, TemperatureSampling, TopKSampling, TopPSampling } = require('../..');
const { getKernels } = require('../../dist/backend');
const { SEED } = require('../lib/models');
const { normals } = require('../lib/normals');

const VOCAB_SIZE = 32_000;
/** Standard deviation of the logits: the nucleus of 0.9 then holds some thousand of the 32,000 tokens. */
const LOGIT_STD = 3;

const STRATEGIES = {
  greedy: () => new GreedySampling(),
  temperature: () => new TemperatureSampling(0.8, { seed: SEED }),
  top_k: () => new TopKSampling(50, { seed: SEED }),
  top_p: () => new TopPSampling(0.9, { seed: SEED }),
  top_k_top_p: () => new RandomSampling({ temperature: 0.8, topK: 50, topP: 0.9, seed: SEED }),
};

function samplingCase(makeStrategy) {
  const strategy = makeStrategy();
  const logits = normals(getKernels(), VOCAB_SIZE, { std: LOGIT_STD });
  const picked = new Float64Array(1);
  return {
    run() {
      picked[0] = strategy.pickToken(logits);
    },
    outputs: () => [picked],
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = Object.entries(STRATEGIES).map(([name, makeStrategy]) => ({
  id: `sampling_${name}`,
  params: { batch: 1, vocab_size: VOCAB_SIZE },
  tokens: 1,
  prepare: () => samplingCase(makeStrategy),
}));

module.exports = { scenarios };
