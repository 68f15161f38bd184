'use strict';
/**
 * The distinct matmuls of the models' steps, as a recording lists them, and cubes. The matmuls inside attention's kernels are
 * left out: they never go to a library.
 */
const { ModelConfig, MoETransformer, Trainer } = require('../..');
const { HIDDEN_512 } = require('../peers/scenarios');
const { recordingKernels } = require('./gemmCalls');
const { SEED, batchOf } = require('./models');
const { normals } = require('./normals');

/**
 * @typedef {object} Shape
 * @property {string} id such as 'NT 64x96x64', with the rows of each group in brackets
 * @property {string[]} steps where it occurs
 * @property {string} kernel
 * @property {number} flops
 * @property {(kernels: any) => any[]} makeArgs with arrays of its own, which start on a cache line
 */

/** One layer is enough: further layers have the same shapes and differ only in the loads of the experts. */
const NLAYERS = 1;
const CONFIGS = {
  tiny: ModelConfig.tiny({ nLayers: NLAYERS }),
  small: ModelConfig.small({ nLayers: NLAYERS }),
  'hidden 512': new ModelConfig({ ...HIDDEN_512, nLayers: NLAYERS }),
};

const WORK = {
  forward: (model, { ids }) => model.forward(ids),
  train: (model, { ids, targets }) => new Trainer(model).trainStep(ids, targets),
};

/** The train step at hidden 512 contains the forward's shapes: both take B8 S256. */
const STEPS = [
  { step: 'tiny forward', model: 'tiny', work: 'forward', batch: 2, seq: 32 },
  { step: 'tiny train', model: 'tiny', work: 'train', batch: 2, seq: 8 },
  { step: 'tiny token', model: 'tiny', work: 'forward', batch: 1, seq: 1 },
  { step: 'small forward', model: 'small', work: 'forward', batch: 2, seq: 32 },
  { step: 'small train', model: 'small', work: 'train', batch: 2, seq: 8 },
  { step: 'small token', model: 'small', work: 'forward', batch: 1, seq: 1 },
  { step: 'hidden 512 train', model: 'hidden 512', work: 'train', batch: 8, seq: 256 },
];

const CUBES = [512, 1024, 2048];

/** @returns {Shape[]} */
function recordShapes(kernels) {
  const shapes = new Map();
  const add = (step, product) => {
    const known = shapes.get(product.id);
    if (known === undefined) shapes.set(product.id, { ...product, steps: [step] });
    else if (!known.steps.includes(step)) known.steps.push(step);
  };
  for (const { step, model, work, batch, seq } of STEPS) {
    for (const call of record(kernels, CONFIGS[model], work, batch, seq))
      add(step, PRODUCT[call.kernel](call));
  }
  for (const side of CUBES) {
    for (const [transA, transB] of [
      [false, true],
      [false, false],
      [true, false],
    ])
      add('cube', cube(transA, transB, side));
  }
  return [...shapes.values()];
}

/** The matmuls that go through the boundary. */
function record(kernels, config, work, batch, seq) {
  const recorder = recordingKernels(kernels);
  const model = MoETransformer.create(config, { seed: SEED, kernels: recorder.kernels });
  recorder.recording = true;
  WORK[work](model, batchOf(batch, seq, config.vocabSize));
  return recorder.calls.filter(({ kernel }) => kernel in PRODUCT);
}

// ---------------------------------------------------------------- calls like the recorded ones

const letters = (transA, transB) => (transA ? 'T' : 'N') + (transB ? 'T' : 'N');
const nameOf = (transA, transB, sides, beta) =>
  `${letters(transA, transB)} ${sides.join('x')}${beta === 0 ? '' : ' +C'}`;

/** Sizes and dense arguments of a recorded call: the model's matrices are dense except for some leading dimensions. */
const PRODUCT = {
  sgemm: ({ args, flops }) => sgemmOf(...args.slice(0, 5), args[12], flops),

  sgemmGrouped: ({ args, flops }) => {
    const [transB, groups, starts, at, n, k] = args;
    const beta = args[14];
    const makeArgs = (kernels) => {
      const rows = starts[at + groups];
      const [a, b, c] = arrays(kernels, rows * k, groups * n * k, rows * n);
      const rest = [1, a, 0, k, b, 0, transB ? k : n, n * k, beta, c, 0, n];
      return [transB, groups, starts, at, n, k, ...rest];
    };
    const id = nameOf(false, transB, [rowsOf(starts, at, groups), n, k], beta);
    return { id, kernel: 'sgemmGrouped', flops, makeArgs };
  },

  sgemmGroupedTransA: ({ args, flops }) => {
    const [groups, starts, at, m, n] = args;
    const beta = args[12];
    const makeArgs = (kernels) => {
      const rows = starts[at + groups];
      const [a, b, c] = arrays(kernels, rows * m, rows * n, groups * m * n);
      return [groups, starts, at, m, n, 1, a, 0, m, b, 0, n, beta, c, 0, n, m * n];
    };
    const id = nameOf(true, false, [m, n, rowsOf(starts, at, groups)], beta);
    return { id, kernel: 'sgemmGroupedTransA', flops, makeArgs };
  },
};

function cube(transA, transB, side) {
  return sgemmOf(transA, transB, side, side, side, 0, 2 * side ** 3);
}

function sgemmOf(transA, transB, m, n, k, beta, flops) {
  return {
    id: nameOf(transA, transB, [m, n, k], beta),
    kernel: 'sgemm',
    flops,
    makeArgs: (kernels) => {
      const [a, b, c] = arrays(kernels, m * k, n * k, m * n);
      return [transA, transB, m, n, k, 1, a, 0, transA ? m : k, b, 0, transB ? k : n, beta, c, 0, n];
    },
  };
}

function rowsOf(starts, at, groups) {
  const rows = Array.from({ length: groups }, (_, g) => starts[at + g + 1] - starts[at + g]);
  return `[${rows.join('+')}]`;
}

function arrays(kernels, ...sizes) {
  return sizes.map((n, stream) => {
    const all = new Float32Array(n + 16);
    const padding = kernels.alignmentPadding(all);
    const x = all.subarray(padding, padding + n);
    x.set(normals(kernels, n, { stream }));
    return x;
  });
}

module.exports = { recordShapes };
