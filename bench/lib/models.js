'use strict';
const { ModelConfig, MoETransformer, Tensor, Trainer } = require('../..');

const SEED = 42;

/** Ids [batch,seq]: (b*S+s) mod vocab, and as targets the same shifted by one. */
function batchOf(batch, seq, vocabSize) {
  const rows = (shift) =>
    Array.from({ length: batch }, (_, b) =>
      Array.from({ length: seq }, (_, s) => (b * seq + s + shift) % vocabSize),
    );
  return { ids: Tensor.fromIds(rows(0)), targets: Tensor.fromIds(rows(1)) };
}

/** @param {string | object} model a preset's name, or the options of a ModelConfig */
function configOf(model) {
  return typeof model === 'string' ? ModelConfig[model]() : new ModelConfig(model);
}

/** @returns {import('./measure').Case & { model: any }} */
function forwardCase(config, batch, seq, kernels) {
  const model = MoETransformer.create(config, { seed: SEED, kernels });
  const { ids } = batchOf(batch, seq, config.vocabSize);
  let logits;
  return {
    model,
    run() {
      logits = model.forward(ids);
    },
    outputs: () => [logits.data],
  };
}

/** @returns {import('./measure').Case & { model: any }} */
function trainCase(config, batch, seq, kernels) {
  const model = MoETransformer.create(config, { seed: SEED, kernels });
  const trainer = new Trainer(model);
  const { ids, targets } = batchOf(batch, seq, config.vocabSize);
  let step;
  return {
    model,
    run() {
      step = trainer.trainStep(ids, targets);
    },
    outputs: () => [[step.loss, step.gradNorm], ...model.store.gradShards, ...model.store.shards],
  };
}

/** The two kinds of work that most scenarios consist of, by name, so that a worker thread can be told which. */
/** A forward into one tensor, as in a loop that makes no new one. */
function forwardIntoCase(config, batch, seq, kernels) {
  const model = MoETransformer.create(config, { seed: SEED, kernels });
  const { ids } = batchOf(batch, seq, config.vocabSize);
  const out = Tensor.zeros([batch, seq, config.vocabSize]);
  return { model, run: () => model.forward(ids, { out }), outputs: () => [out.data] };
}

const WORK = { forward: forwardCase, forwardInto: forwardIntoCase, train: trainCase };

/**
 * A scenario that forwards or trains a model.
 * @param {string} id
 * @param {{ work: 'forward' | 'forwardInto' | 'train', model?: string, batch: number, seq: number }} what
 * @returns {import('./measure').Scenario}
 */
function modelScenario(id, { work, model = 'tiny', batch, seq }) {
  const config = configOf(model);
  return {
    id,
    params: modelParams(model, config, batch, seq),
    tokens: batch * seq,
    prepare: () => WORK[work](config, batch, seq),
  };
}

function modelParams(model, config, batch, seq) {
  return { model, batch, seq_len: seq, hidden_dim: config.hiddenDim };
}

/**
 * Gives a model packed copies of its weights.
 * @param {any} model
 */
function pack(model) {
  model.freeze({ pack: true });
}

module.exports = {
  SEED,
  WORK,
  batchOf,
  configOf,
  forwardCase,
  forwardIntoCase,
  modelParams,
  modelScenario,
  pack,
  trainCase,
};
