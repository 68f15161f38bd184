'use strict';
/** Measures tokens per second of training at a size where arithmetic dominates a step. */
const { configOf, modelParams, trainCase } = require('../lib/models');

const BATCH = 8;
const SEQ = 256;

const config = configOf({
  hiddenDim: 512,
  nLayers: 8,
  nHeads: 8,
  nKvHeads: 2,
  headDim: 64,
  nExperts: 8,
  topKExperts: 2,
  ffnDim: 1024,
  vocabSize: 8192,
  maxSeqLen: SEQ,
});

/** Weights, gradients and two moments of 114 M parameters, and the activations of 2,048 tokens, with a margin. */
const NEEDS_BYTES = 3.5e9;

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  {
    id: 'training_512',
    params: { ...modelParams('hidden 512', config, BATCH, SEQ), n_layers: config.nLayers },
    tokens: BATCH * SEQ,
    mostTrials: 3,
    needsBytes: NEEDS_BYTES,
    prepare: () => trainCase(config, BATCH, SEQ),
  },
];

module.exports = { scenarios };
