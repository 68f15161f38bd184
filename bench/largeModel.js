'use strict';
/**
 * Writes a checkpoint of a preset with random weights, without ever holding it in memory, and measures how it loads and
 * decodes as it is stored, or trains adapters on all experts beside it. The numbers repeat every few megabytes, which no
 * measurement of memory or time notices.
 *
 *   node bench/largeModel.js --out /tmp/large --dtype q8_0
 *   node bench/largeModel.js --out /tmp/large --measure
 *   node bench/largeModel.js --out /tmp/large --train
 */
const fs = require('node:fs');
const path = require('node:path');
const { Option } = require('commander');
const { addBackendOptions, applyBackendOptions, command, start } = require('./lib/command');
const { median } = require('./lib/stats');

const PRESETS = ['default6_9b', 'small', 'tiny'];
const TYPES = ['bfloat16', 'float16', 'q8_0', 'q4_0'];
/** Random numbers that a tensor's rows are taken from, in turn. */
const POOL = 2 ** 22;
const DECODED = 32;
/** Memory that is read in order after each of them, for comparison: more than the caches hold. */
const READ_BYTES = 2 ** 28;
/** What --train trains: adapters of this rank on all experts, on one row of so many tokens, for so many steps. */
const TRAINED = { rank: 16, seq: 256, steps: 3 };

start(async () => {
  const program = command(
    'largeModel.js',
    'Writes a large random checkpoint, or measures one that was written.',
  )
    .requiredOption('--out <dir>', 'folder of the checkpoint')
    .addOption(new Option('--preset <name>', 'configuration').choices(PRESETS).default('default6_9b'))
    .addOption(new Option('--dtype <type>', 'type of the matrices').choices(TYPES).default('bfloat16'))
    .option('--measure', 'load it, and decode (default: write it)')
    .option('--train', `load it, and train adapters of rank ${TRAINED.rank} on all experts`);
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  if (options.measure) await measure(options.out);
  else if (options.train) await train(options.out);
  else await write(options.out, options.preset, options.dtype);
});

async function write(out, preset, dtype) {
  const { ModelConfig } = require('..');
  const { getKernels } = require('../dist/backend');
  const { ParameterStore } = require('../dist/memory/parameters');
  const { assemble } = require('../dist/model/assemble');
  const { streamSafetensors, writeChunks } = require('../dist/checkpoint/safetensors');
  const { BLOCK_TYPES_KEY } = require('../dist/checkpoint/blockTensors');
  const { STORAGE_TYPES, storageTypeFor } = require('../dist/base/storageTypes');
  const config = ModelConfig[preset]();
  const kernels = getKernels();
  const store = new ParameterStore(kernels);
  assemble(config, store);
  store.keepStored(store.tables);
  const named = { float32: 'F32', bfloat16: 'BF16', float16: 'F16' };
  const blocks = {};
  const tensors = store.parameters.map(({ name, shape, size, isStored }) => {
    const cols = shape[shape.length - 1];
    const type = isStored ? storageTypeFor(dtype, cols) : 'float32';
    const rowBytes = (cols / STORAGE_TYPES[type].elements) * STORAGE_TYPES[type].bytes;
    const ones = name.endsWith('norm.weight');
    const chunks = () => rowsOf(kernels, type, cols, size / cols, rowBytes, ones);
    if (named[type]) return { name, shape, dtype: named[type], chunks };
    blocks[name] = type;
    return { name, shape: [size / cols, rowBytes], dtype: 'U8', chunks };
  });
  const order = ['F32', 'BF16', 'F16', 'U8'];
  tensors.sort((a, b) => order.indexOf(a.dtype) - order.indexOf(b.dtype));
  fs.mkdirSync(out, { recursive: true });
  fs.writeFileSync(path.join(out, 'config.json'), JSON.stringify(config.toJSON()));
  const handle = await fs.promises.open(path.join(out, 'model.safetensors'), 'w');
  try {
    /** @type {Record<string, string>} */
    const metadata = {};
    if (Object.keys(blocks).length > 0) metadata[BLOCK_TYPES_KEY] = JSON.stringify(blocks);
    await writeChunks(handle, streamSafetensors(tensors, metadata));
  } finally {
    await handle.close();
  }
}

const pools = new Map();

/** Bytes of about POOL random numbers in rows of `cols`, each with the deviation of Kaiming's initialisation. */
function poolOf(kernels, type, cols, rowBytes, ones) {
  const key = `${type} ${cols} ${ones}`;
  if (!pools.has(key)) {
    const rows = Math.max(1, Math.floor(POOL / cols));
    const numbers = new Float32Array(rows * cols).fill(1);
    if (!ones) kernels.randomNormal(numbers, 0, numbers.length, 1, 0, pools.size, Math.sqrt(2 / cols));
    const bytes = new Uint8Array(rows * rowBytes);
    kernels.quantize(type, rows, cols, numbers, 0, cols, bytes, 0);
    pools.set(key, { bytes, next: 0 });
  }
  return pools.get(key);
}

function* rowsOf(kernels, type, cols, rows, rowBytes, ones) {
  const pool = poolOf(kernels, type, cols, rowBytes, ones);
  for (let left = rows * rowBytes; left > 0; ) {
    const chunk = pool.bytes.subarray(pool.next, pool.next + left);
    yield chunk;
    left -= chunk.length;
    pool.next = (pool.next + chunk.length) % pool.bytes.length;
  }
}

async function measure(dir) {
  const { Decoder, MoETransformer } = require('..');
  const { formatBytes } = require('../dist/base/formatBytes');
  const started = performance.now();
  const model = await MoETransformer.load(dir, { dtype: 'stored' });
  const loadedMs = performance.now() - started;
  const decoder = new Decoder(model, { contextLength: 256 });
  const logits = new Float32Array(model.vocabSize);
  decoder.prefill(0, [1, 2, 3, 4], logits);
  const read = readerOf(model.kernels);
  const perToken = activeBytes(model);
  /** @type {number[][]} */
  const [times, rates, shares] = [[], [], []];
  for (let i = 0, token = 5; i < DECODED; i++) {
    const ms = msOf(() => decoder.step([{ slot: 0, tokens: [token] }], { logits }));
    const rate = READ_BYTES / msOf(read);
    times.push(ms);
    rates.push(rate);
    shares.push(perToken / ms / rate);
    token = logits.indexOf(Math.max(...logits));
  }
  const gigabytes = (bytesPerMs) => `${(bytesPerMs / 1e6).toFixed(1)} GB/s`;
  print([
    ...weightsOf(model),
    ['load', `${loadedMs.toFixed(0)} ms`],
    ['decode', `${(1000 / median(times)).toFixed(2)} tokens/s, median of ${DECODED}`],
    [
      'reads',
      `${gigabytes(perToken / median(times))} of active weights (${formatBytes(perToken)} a token), ${median(shares).toFixed(2)} of ` +
        `reading memory in order (${gigabytes(median(rates))}), in turns`,
    ],
    ['process', `${formatBytes(process.memoryUsage().rss)} resident, mapped pages included`],
  ]);
}

function msOf(run) {
  const begun = performance.now();
  run();
  return performance.now() - begun;
}

/** Reads READ_BYTES in order, on all threads. */
function readerOf(kernels) {
  const x = kernels.memory.floats(READ_BYTES / 4).fill(1);
  return () => kernels.sumSquares(x, 0, x.length);
}

/**
 * Bytes of weights that one token reads: all but the experts that it isn't routed to, and the other tokens' embeddings.
 * @param {import('..').MoETransformer} model
 */
function activeBytes({ config, weightBytes: { resident, mapped } }) {
  const embedding = config.tieEmbeddings ? 0 : config.vocabSize * config.hiddenDim;
  return ((resident + mapped) / config.totalParams()) * (config.activeParams() - embedding);
}

async function train(dir) {
  const { MoETransformer, Tensor, Trainer } = require('..');
  const { formatBytes } = require('../dist/base/formatBytes');
  const { rank, seq, steps } = TRAINED;
  const model = await MoETransformer.load(dir, { dtype: 'stored' });
  const { parameters } = model.addLora({ targets: ['experts'], rank }).store;
  const trained = parameters.reduce((sum, { size }) => sum + size, 0);
  const trainer = new Trainer(model, { lr: 1e-4, warmupSteps: 0, gradientCheckpointing: true });
  const ids = Array.from({ length: seq + 1 }, (_, i) => (i * 7919) % model.vocabSize);
  const [inputs, targets] = [ids.slice(0, -1), ids.slice(1)].map((row) => Tensor.fromIds(row, [1, seq]));
  /** @type {string[]} */
  const losses = [];
  /** @type {number[]} */
  const times = [];
  for (let step = 0; step < steps; step++) {
    const begun = performance.now();
    losses.push(trainer.trainStep(inputs, targets).loss.toFixed(4));
    times.push(performance.now() - begun);
  }
  print([
    ...weightsOf(model),
    ['adapters', `rank ${rank} on all experts: ${trained} parameters`],
    ['step', `${(median(times) / 1000).toFixed(1)} s for ${seq} tokens; losses ${losses.join(', ')}`],
    ['process', `${formatBytes(1024 * process.resourceUsage().maxRSS)} at most, mapped pages included`],
  ]);
}

/** @returns {[label: string, value: string][]} */
function weightsOf(model) {
  const { formatBytes } = require('../dist/base/formatBytes');
  const { resident, mapped } = model.weightBytes;
  return [
    ['parameters', `${model.config.totalParams()} (${model.config.activeParams()} active)`],
    ['weights', `${formatBytes(resident)} in memory, ${formatBytes(mapped)} mapped`],
  ];
}

/** @param {[label: string, value: string][]} rows */
function print(rows) {
  for (const [label, value] of rows) process.stdout.write(`${label.padEnd(12)}${value}\n`);
}
