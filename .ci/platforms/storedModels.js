'use strict';
/**
 * node storedModels.js <folder>
 *
 * Writes one model of random weights in two forms that are mapped, not read, `bf16/` (a folder as transformers writes it) and
 * `q4_k_m.gguf`, and what the addon of this machine computes from each of them with exact products: expected.json.
 */
const fs = require('node:fs');
const path = require('node:path');

const PROMPT = [3, 1, 4, 1, 5];
const LENGTH = 16;

async function main(folder) {
  process.env.SGEMOE_EXACT = '1';
  const { exportGguf, exportHuggingFace, ModelConfig, MoETransformer } = require('../..');
  // Rows of 256 numbers are whole blocks of every type.
  const shape = { hiddenDim: 256, ffnDim: 256, nLayers: 2, nHeads: 4, nKvHeads: 2, headDim: 64 };
  const config = new ModelConfig({ ...shape, nExperts: 4, topKExperts: 2, vocabSize: 96, maxSeqLen: 32 });
  const model = MoETransformer.create(config, { seed: 5 });
  fs.mkdirSync(folder, { recursive: true });
  await exportHuggingFace(path.join(folder, 'bf16'), model, { architecture: 'mixtral', dtype: 'bf16' });
  await exportGguf(path.join(folder, 'q4_k_m.gguf'), model, { dtype: 'q4_k_m' });
  const models = {};
  for (const name of ['bf16', 'q4_k_m.gguf']) {
    const stored = await MoETransformer.load(path.join(folder, name), { dtype: 'stored' });
    const tokens = stored.generateGreedy(PROMPT, LENGTH);
    models[name] = { tokens, logits: Array.from(stored.forwardIds(tokens, 1, LENGTH).data) };
  }
  fs.writeFileSync(path.join(folder, 'expected.json'), JSON.stringify({ prompt: PROMPT, models }));
}

main(process.argv[2]);
