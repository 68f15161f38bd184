'use strict';
/** Measures the cost that a dynamic language pays once (construction and first call) and the cost that stays when warm. */
const { MoETransformer } = require('../..');
const { SEED, batchOf, configOf, modelParams, modelScenario } = require('../lib/models');

const config = configOf('tiny');

function coldCase() {
  const { ids } = batchOf(1, 8, config.vocabSize);
  let logits;
  return {
    run() {
      logits = MoETransformer.create(config, { seed: SEED }).forward(ids);
    },
    outputs: () => [logits.data],
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  modelScenario('dispatch_warm', { work: 'forward', batch: 2, seq: 32 }),
  { id: 'dispatch_cold', params: modelParams('tiny', config, 1, 8), tokens: 8, prepare: coldCase },
];

module.exports = { scenarios };
