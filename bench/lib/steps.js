'use strict';
/** The steps of the tiny model that bench/javascript.js examines: functions that make one, on given kernels. */
const { Decoder, ModelConfig, MoETransformer } = require('../..');
const { SEED, forwardCase, forwardIntoCase, trainCase } = require('./models');

const config = (nLayers) => ModelConfig.tiny({ nLayers });

/** @returns {{ run: () => void }} */
function nextToken(kernels, nLayers) {
  const model = MoETransformer.create(config(nLayers), { seed: SEED, kernels });
  const logits = new Float32Array(model.vocabSize);
  const token = [7];
  return { run: () => model.nextTokenLogits(token, logits) };
}

/**
 * Makes the next token of this many sequences of 16 tokens each.
 * @returns {{ run: () => void }}
 */
function decode(kernels, nLayers, sequences) {
  const model = MoETransformer.create(config(nLayers), { seed: SEED, kernels });
  const decoder = new Decoder(model, { slots: sequences, contextLength: 32 });
  const text = Int32Array.from({ length: 16 }, (_, i) => i);
  const rows = Array.from({ length: sequences }, (_, slot) => ({ slot, tokens: [7] }));
  for (const { slot } of rows) decoder.prefill(slot, text);
  const logits = new Float32Array(sequences * model.vocabSize);
  const run = () => {
    decoder.step(rows, { logits });
    for (let slot = 0; slot < sequences; slot++) decoder.truncate(slot, text.length);
  };
  return { run };
}

const LAYERS = 2;

/** @type {Record<string, (kernels?: any, nLayers?: number) => { run: () => void }>} */
const STEPS = {
  'forward B2 S32, with out': (kernels, nLayers = LAYERS) => forwardIntoCase(config(nLayers), 2, 32, kernels),
  'forward B2 S32': (kernels, nLayers = LAYERS) => forwardCase(config(nLayers), 2, 32, kernels),
  'train step B2 S8': (kernels, nLayers = LAYERS) => trainCase(config(nLayers), 2, 8, kernels),
  'next token, T=1': (kernels, nLayers = LAYERS) => nextToken(kernels, nLayers),
  'decode, 1 sequence': (kernels, nLayers = LAYERS) => decode(kernels, nLayers, 1),
  'decode, 8 sequences': (kernels, nLayers = LAYERS) => decode(kernels, nLayers, 8),
};

module.exports = { LAYERS, STEPS };
