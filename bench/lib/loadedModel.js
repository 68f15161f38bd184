'use strict';

/** The model of the engine's and the server's benchmarks: 150 MB of weights, a step takes milliseconds. */
const LOADED = {
  hiddenDim: 512,
  nLayers: 4,
  nHeads: 8,
  nKvHeads: 2,
  headDim: 64,
  nExperts: 8,
  topKExperts: 2,
  ffnDim: 768,
  vocabSize: 256,
  maxSeqLen: 1024,
};

module.exports = { LOADED };
