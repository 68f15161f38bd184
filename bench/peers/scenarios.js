'use strict';
/** The compared scenarios: the benchmark's own sizes, described so that another process can build the same models. */
const compiler = require('../axes/compiler');
const { configOf } = require('../lib/models');

/**
 * @typedef {object} PeerScenario
 * @property {string} id
 * @property {'forward' | 'train' | 'cold' | 'kernel'} work 'cold' constructs the model and forwards once
 * @property {Record<string, unknown>} [config] of a model, as in config.json
 * @property {number} [batch]
 * @property {number} [seq]
 * @property {string} [kernel] what the peers call it
 * @property {Record<string, number>} [sizes] of a kernel
 * @property {number} inner runs a trial, for work too short to be timed alone
 * @property {boolean} [long] runs of seconds: few trials, and no untimed run before each block
 */

const HIDDEN_512 = {
  hiddenDim: 512,
  nLayers: 8,
  nHeads: 8,
  nKvHeads: 2,
  headDim: 64,
  nExperts: 8,
  topKExperts: 2,
  ffnDim: 1024,
  vocabSize: 8192,
  maxSeqLen: 512,
};

const HIDDEN_768 = {
  ...HIDDEN_512,
  hiddenDim: 768,
  nLayers: 12,
  nHeads: 12,
  nKvHeads: 4,
  ffnDim: 2048,
  vocabSize: 32_000,
  maxSeqLen: 1024,
};

/** @returns {PeerScenario} */
function model(id, work, options, batch, seq, long = false) {
  return { id, work, config: configOf(options).toJSON(), batch, seq, inner: 1, long };
}

/** @returns {PeerScenario} a kernel of the benchmark's compiler axis, with its number of runs a trial */
function kernel(id, name, sizesOf) {
  const scenario = compiler.scenarios.find((candidate) => candidate.id === id);
  if (scenario === undefined) throw new Error(`no scenario ${id}`);
  return {
    id,
    work: 'kernel',
    kernel: name,
    sizes: sizesOf(scenario.params),
    inner: scenario.innerIterations ?? 1,
  };
}

/** @type {PeerScenario[]} */
const STANDARD = [
  model('forward_tiny', 'forward', 'tiny', 2, 32),
  model('train_tiny', 'train', 'tiny', 2, 8),
  model('forward_small', 'forward', 'small', 2, 32),
  model('train_small', 'train', 'small', 2, 8),
  model('cold_tiny', 'cold', 'tiny', 1, 8),
  kernel('kernel_softmax', 'softmax', ({ n }) => ({ n })),
  kernel('kernel_rmsnorm', 'rmsnorm', (p) => ({ rows: p.batch * p.seq_len, cols: p.hidden_dim })),
  kernel('kernel_matmul', 'matmul', ({ n }) => ({ n })),
];

/** Of `--all`. @type {PeerScenario[]} */
const LARGE = [
  model('forward_512', 'forward', HIDDEN_512, 8, 256, true),
  model('train_512', 'train', HIDDEN_512, 8, 256, true),
];

module.exports = { HIDDEN_512, HIDDEN_768, LARGE, STANDARD };
