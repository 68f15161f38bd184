'use strict';
/** Times the small preset: the same model at hidden 256, where arithmetic outweighs everything else. */
const { modelScenario } = require('../lib/models');

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  modelScenario('scale_forward_256', { work: 'forward', model: 'small', batch: 2, seq: 32 }),
  modelScenario('scale_train_256', { work: 'train', model: 'small', batch: 2, seq: 8 }),
];

module.exports = { scenarios };
