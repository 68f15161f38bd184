'use strict';
/** Measures how memory and time grow with the batch and with the sequence. */
const { modelScenario } = require('../lib/models');

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  modelScenario('mem_train_step', { work: 'train', batch: 2, seq: 8 }),
  ...[1, 2, 4, 8].map((batch) =>
    modelScenario(`mem_scale_batch_${batch}`, { work: 'forward', batch, seq: 32 }),
  ),
  ...[8, 16, 32, 64].map((seq) => modelScenario(`mem_scale_seq_${seq}`, { work: 'forward', batch: 2, seq })),
];

module.exports = { scenarios };
