'use strict';
/** This library's side of bench/finetune.js: oursAdapters.js <type of the base's matrices>. */
const { loadLora, MoETransformer, Trainer } = require('../..');
const { batchOf } = require('../lib/models');
const { serve } = require('./serving');

const [, , dtype] = process.argv;

serve(prepare, dtype === 'float32' ? {} : { name: `sgemoe, ${dtype} base` });

/** @param {import('../finetune').AdapterScenario} scenario */
async function prepare({ base, adapter, batch, seq, lr }) {
  const model = await MoETransformer.load(base, /** @type {any} */ ({ dtype }));
  await loadLora(adapter, model);
  const trainer = new Trainer(model, {
    lr,
    warmupSteps: 0,
    totalSteps: 1e9,
    weightDecay: 0,
    auxLossAlpha: 0,
  });
  const { ids, targets } = batchOf(batch, seq, model.vocabSize);
  return () => trainer.trainStep(ids, targets).loss;
}
