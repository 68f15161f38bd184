'use strict';
/**
 * Generates one sequence, one token at a time: the whole context goes through the model for each new token. It does so with
 * plain weights, and with weights packed by model.freeze({ pack: true }).
 */
const { GreedySampling, MoETransformer } = require('../..');
const { SEED, batchOf, configOf, modelParams, pack } = require('../lib/models');

const CASES = [
  { model: 'tiny', context: 1 },
  { model: 'tiny', context: 8 },
  { model: 'tiny', context: 64 },
  { model: 'tiny', context: 256 },
  { model: 'small', context: 1 },
  { model: 'small', context: 64 },
].flatMap((what) => [what, { ...what, frozen: true }]);

function decodeCase(config, context, frozen) {
  const model = MoETransformer.create(config, { seed: SEED });
  if (frozen) pack(model);
  const tokens = batchOf(1, context, config.vocabSize).ids.data;
  const logits = new Float32Array(config.vocabSize);
  const greedy = new GreedySampling();
  return {
    run() {
      greedy.pickToken(model.nextTokenLogits(tokens, logits));
    },
    outputs: () => [logits],
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = CASES.map(({ model, context, frozen = false }) => {
  const config = configOf(model);
  return {
    id: `decode_${model}_context_${context}${frozen ? '_frozen' : ''}`,
    params: modelParams(model, config, 1, context),
    tokens: 1,
    prepare: () => decodeCase(config, context, frozen),
  };
});

module.exports = { scenarios };
