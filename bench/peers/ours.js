'use strict';
/** This library's side of bench/peers.js. */
const { ModelConfig, MoETransformer } = require('../..');
const compiler = require('../axes/compiler');
const { SEED, WORK, batchOf } = require('../lib/models');
const { serve } = require('./serving');

serve(prepare);

/** @param {import('./scenarios').PeerScenario} scenario */
function prepare({ id, work, config: json, batch, seq }) {
  if (work === 'kernel') return kernelCase(id).run;
  const config = ModelConfig.fromJSON(json);
  if (work !== 'cold') return WORK[work](config, batch, seq).run;
  const { ids } = batchOf(batch, seq, config.vocabSize);
  return () => MoETransformer.create(config, { seed: SEED }).forward(ids);
}

/** @returns {any} of the compiler axis, whose cases are made at once */
function kernelCase(id) {
  return compiler.scenarios.find((scenario) => scenario.id === id)?.prepare();
}
