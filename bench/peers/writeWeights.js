'use strict';
/** writeWeights.js <folder> <config as JSON>: writes the model that ours.js makes for this config, for the peers that begin with its weights. */
const { exportHuggingFace, ModelConfig, MoETransformer } = require('../..');
const { SEED } = require('../lib/models');

const [, , folder, config] = process.argv;
const model = MoETransformer.create(ModelConfig.fromJSON(JSON.parse(config)), { seed: SEED });
exportHuggingFace(folder, model, { architecture: 'mixtral' }).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
