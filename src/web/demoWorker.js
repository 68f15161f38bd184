/** Trains the model of demo.html, off the page's thread. */

/** @typedef {import('./demo.js').FromWorker} FromWorker */

const CONFIG = {
  vocabSize: 256,
  hiddenDim: 64,
  nLayers: 2,
  nHeads: 4,
  nKvHeads: 2,
  headDim: 16,
  nExperts: 4,
  topKExperts: 2,
  ffnDim: 128,
  maxSeqLen: 160,
};
const [BATCH, SEQ] = [8, 64];
const STEPS = 2000;
const SAMPLE_EVERY = 25;
const SAMPLE_TOKENS = 120;

const address = new URL('./index.js', import.meta.url).href;
/** @type {typeof import('../web')} */
const { ByteTokenizer, Decoder, load, MoETransformer, Sampler, Tensor, Trainer } = await import(address);

const tokenizer = new ByteTokenizer();
/** The number of the current training; an older training ends at its next step. */
let training = 0;

try {
  const { backend } = await load();
  const { config } = MoETransformer.create(CONFIG);
  tell({
    kind: 'ready',
    parameters: config.totalParams(),
    backend,
    layers: CONFIG.nLayers,
    experts: CONFIG.nExperts,
  });
} catch (error) {
  tell({ kind: 'error', message: String(error) });
}

addEventListener('message', ({ data }) => {
  training++;
  if (data.kind === 'stop') return;
  train(data.text).catch((error) => tell({ kind: 'error', message: String(error) }));
});

/** @param {FromWorker} message */
function tell(message) {
  postMessage(message);
}

/** @param {string} text */
async function train(text) {
  const own = training;
  const ids = tokenizer.encode(text);
  if (ids.length <= SEQ)
    throw new RangeError(`The text must have more than ${SEQ} bytes, it has ${ids.length}.`);
  const model = MoETransformer.create(CONFIG, { seed: 1 });
  const trainer = new Trainer(model, { lr: 3e-3, warmupSteps: 20, totalSteps: STEPS });
  const began = performance.now();
  for (let step = 1; step <= STEPS && own === training; step++) {
    const [inputs, targets] = batchOf(ids);
    const { crossEntropy } = trainer.trainStep(inputs, targets);
    const tokensPerSecond = (1000 * step * BATCH * SEQ) / (performance.now() - began);
    tell({ kind: 'step', step, loss: crossEntropy, tokensPerSecond });
    if (step % SAMPLE_EVERY === 1) sample(model);
    // Messages of the page are received here.
    await new Promise((done) => setTimeout(done));
  }
  if (own === training) sample(model);
  tell({ kind: 'stopped' });
}

/** Windows of the text from random places. @param {Int32Array} ids */
function batchOf(ids) {
  const inputs = new Int32Array(BATCH * SEQ);
  const targets = new Int32Array(BATCH * SEQ);
  for (let row = 0; row < BATCH; row++) {
    const at = Math.floor(Math.random() * (ids.length - SEQ));
    inputs.set(ids.subarray(at, at + SEQ), row * SEQ);
    targets.set(ids.subarray(at + 1, at + 1 + SEQ), row * SEQ);
  }
  return [inputs, targets].map((each) => Tensor.fromIds(each, [BATCH, SEQ]));
}

/** Writes a text, and tells which experts each byte of it reached. @param {import('../web').MoETransformer} model */
function sample(model) {
  const { nLayers: layers, topKExperts: k, vocabSize } = CONFIG;
  const decoder = new Decoder(model, { contextLength: SAMPLE_TOKENS + 1 });
  const sampler = new Sampler({ temperature: 0.7, seed: 1 }, { vocabSize, kernels: model.kernels });
  const logits = new Float32Array(vocabSize);
  const experts = new Int32Array(layers * k);
  const gateWeights = new Float32Array(layers * k);
  const tokens = [];
  const written = [];
  let id = 't'.charCodeAt(0);
  for (let i = 0; i < SAMPLE_TOKENS; i++) {
    written.push(id);
    decoder.step([{ slot: 0, tokens: [id], logits: 'last' }], { logits, experts, gateWeights });
    const rows = (/** @type {Int32Array | Float32Array} */ all) =>
      Array.from({ length: layers }, (_, layer) => [...all.subarray(layer * k, (layer + 1) * k)]);
    tokens.push({ text: String.fromCharCode(id), experts: rows(experts), weights: rows(gateWeights) });
    id = sampler.choose(logits);
  }
  tell({ kind: 'sample', text: tokenizer.decode(written), tokens: /** @type {never} */ (tokens) });
}
