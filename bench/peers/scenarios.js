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
 * @property {PeerName[]} peers whom it is timed on, beside ours
 * @property {Partial<Record<PeerName, Partial<Record<import('../..').Precision, number>>>>} [bars] goals: the least ratio to a peer's fastest form
 * @property {string} [weights] folder of our weights, as transformers reads them
 * @property {number} [auxLossAlpha] of our train step (default: the model's); the Mixtral of transformers is trained without that loss
 */

/** @typedef {'numpy' | 'torch' | 'mixtral' | 'float32'} PeerName 'float32' is this library's own, beside bfloat16 */

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

/**
 * A scenario that forwards or trains a model.
 * @param {string} id
 * @param {'forward' | 'train' | 'cold'} work
 * @param {string | object} options of configOf
 * @param {number} batch
 * @param {number} seq
 * @param {Partial<PeerScenario>} [more]
 * @returns {PeerScenario}
 */
function model(id, work, options, batch, seq, more = {}) {
  const config = configOf(options).toJSON();
  return { id, work, config, batch, seq, inner: 1, long: false, peers: ['numpy', 'torch'], ...more };
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
    peers: ['numpy', 'torch'],
  };
}

/** @type {PeerScenario[]} */
const STANDARD = [
  model('forward_tiny', 'forward', 'tiny', 2, 32, { bars: { torch: { float32: 2 } } }),
  model('train_tiny', 'train', 'tiny', 2, 8, { bars: { torch: { float32: 6 } } }),
  model('forward_small', 'forward', 'small', 2, 32, { bars: { torch: { float32: 2 } } }),
  model('train_small', 'train', 'small', 2, 8, { bars: { torch: { float32: 2 } } }),
  model('cold_tiny', 'cold', 'tiny', 1, 8),
  kernel('kernel_softmax', 'softmax', ({ n }) => ({ n })),
  kernel('kernel_rmsnorm', 'rmsnorm', (p) => ({ rows: p.batch * p.seq_len, cols: p.hidden_dim })),
  kernel('kernel_matmul', 'matmul', ({ n }) => ({ n })),
];

/** @type {Partial<PeerScenario>} NumPy would take minutes for a step. */
const LARGEST = { long: true, peers: ['torch'] };
const BOTH = { float32: 1.5, bfloat16: 1.5 };

/** Of `--all`. @type {PeerScenario[]} */
const LARGE = [
  model('forward_512', 'forward', HIDDEN_512, 8, 256, { long: true, bars: { torch: { float32: 1.5 } } }),
  model('train_512', 'train', HIDDEN_512, 8, 256, {
    long: true,
    bars: { torch: { float32: 2, bfloat16: 1.5 } },
  }),
  model('forward_768', 'forward', HIDDEN_768, 4, 256, { ...LARGEST, bars: { torch: { float32: 1.5 } } }),
  model('train_768', 'train', HIDDEN_768, 4, 256, {
    ...LARGEST,
    bars: { torch: BOTH, float32: { bfloat16: 3 } },
  }),
  model('mixtral_768', 'train', HIDDEN_768, 4, 256, {
    long: true,
    auxLossAlpha: 0,
    peers: ['mixtral'],
    bars: { mixtral: { float32: 2 } },
  }),
];

/** What is also computed in bfloat16. */
function hasPrecisions({ work }) {
  return work === 'forward' || work === 'train';
}

module.exports = { HIDDEN_512, HIDDEN_768, LARGE, STANDARD, hasPrecisions };
