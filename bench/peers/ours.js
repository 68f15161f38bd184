'use strict';
/** This library's side of bench/peers.js: ours.js [precision], by default the scenario's. */
const { ModelConfig, MoETransformer, Trainer } = require('../..');
const compiler = require('../axes/compiler');
const { SEED, batchOf } = require('../lib/models');
const { serve } = require('./serving');

const [, , forced] = process.argv;

serve(prepare, forced === undefined ? {} : { name: `sgemoe in ${forced}` });

/** @param {import('./scenarios').PeerScenario & { precision: import('../..').Precision }} scenario */
function prepare({ id, work, config: json, batch, seq, auxLossAlpha, precision: wanted }) {
  if (work === 'kernel') return kernelCase(id).run;
  const config = ModelConfig.fromJSON(json);
  const { ids, targets } = batchOf(batch, seq, config.vocabSize);
  const create = () => MoETransformer.create(config, { seed: SEED });
  if (work === 'cold') return () => create().forward(ids);
  const model = create();
  const precision = /** @type {import('../..').Precision} */ (forced ?? wanted);
  if (work === 'forward') {
    return {
      run: () => model.forward(ids, { precision }),
      numbersOf: ({ data }) => [crossEntropy(data, targets.data, config.vocabSize)],
    };
  }
  const trainer = new Trainer(model, { precision, auxLossAlpha });
  return () => {
    const { loss, gradNorm } = trainer.trainStep(ids, targets);
    return [loss, gradNorm];
  };
}

/** Mean over the rows of logits [T,V]. */
function crossEntropy(logits, targets, vocab) {
  let sum = 0;
  for (let row = 0; row < targets.length; row++) {
    const of = logits.subarray(row * vocab, (row + 1) * vocab);
    const top = of.reduce((a, b) => Math.max(a, b));
    sum += top + Math.log(of.reduce((total, x) => total + Math.exp(x - top), 0)) - of[targets[row]];
  }
  return sum / targets.length;
}

/** @returns {any} of the compiler axis, whose cases are made at once */
function kernelCase(id) {
  return compiler.scenarios.find((scenario) => scenario.id === id)?.prepare();
}
