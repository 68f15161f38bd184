'use strict';
/**
 * Measures decoding with a key-value cache, 1, 8 and 64 sequences in a step, with a model whose weights no cache holds. Prints
 * as Markdown the tokens/s, and the rate at which a step reads weights, relative to reading the same weights in order. With
 * --pack, a model with packed copies of the same weights takes turns with it.
 *
 *   node bench/decode.js --threads 1
 */
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');
const { median } = require('./lib/stats');

const SEQUENCES = [1, 8, 64];
const MOST_CONTEXT = 1024;
/** Timed steps for each number of sequences. */
const STEPS = 15;
const WARMUP = 2;

/** 1.1 GB of weights, of which a single token reads 0.4. */
const MODEL = {
  hiddenDim: 768,
  nLayers: 6,
  nHeads: 12,
  nKvHeads: 2,
  headDim: 64,
  nExperts: 8,
  topKExperts: 2,
  ffnDim: 2048,
  vocabSize: 32_000,
  maxSeqLen: MOST_CONTEXT,
};

start(async () => {
  const program = command('decode.js', 'Measures decoding: tokens/s, and bytes of weights a second.')
    .option('--context <n>', 'tokens that each sequence already has', integer(1, MOST_CONTEXT - 1), 128)
    .option('--pack', 'also with packed copies of the weights, in turns');
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  const { Decoder, MoETransformer } = require('..');
  const { pack } = require('./lib/models');
  const model = MoETransformer.create(MODEL);
  const models = [model];
  if (options.pack) {
    models.push(MoETransformer.fromShared(model.share()));
    pack(models[1]);
  }
  const slots = Math.max(...SEQUENCES);
  const decoders = models.map((each) => new Decoder(each, { slots, contextLength: options.context + 1 }));
  for (const decoder of decoders) fill(decoder, options.context);
  const rows = SEQUENCES.map((sequences) => measure(model, decoders, sequences, options.context));
  process.stdout.write(report(model, rows));
});

/** Gives every slot its own text. */
function fill(decoder, length) {
  for (let slot = 0; slot < decoder.slots; slot++) {
    decoder.prefill(
      slot,
      Int32Array.from({ length }, (_, i) => (i * 7919 + slot * 104_729) % MODEL.vocabSize),
    );
  }
}

/** Times steps of each decoder, and reads of all weights in order, in turns. */
function measure(model, decoders, sequences, context) {
  const { vocabSize, nLayers, topKExperts } = model.config;
  const rows = Array.from({ length: sequences }, (_, slot) => ({ slot, tokens: [slot * 499 + 1] }));
  const logits = new Float32Array(sequences * vocabSize);
  const experts = new Int32Array(nLayers * sequences * topKExperts);
  const step = (decoder) => {
    decoder.step(rows, { logits, experts });
    for (const { slot } of rows) decoder.truncate(slot, context);
  };
  const read = () => {
    for (const shard of model.store.shards) model.kernels.sumSquares(shard, 0, shard.length);
  };
  for (let i = 0; i < WARMUP; i++) decoders.forEach(step);
  const times = Array.from({ length: STEPS }, () => ({
    steps: decoders.map((decoder) => secondsOf(() => step(decoder))),
    read: secondsOf(read),
  }));
  const [seconds, packed] = decoders.map((_, i) => median(times.map(({ steps }) => steps[i])));
  const all = model.store.shards.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return {
    sequences,
    seconds,
    packed,
    bytes: weightBytes(model.config, experts, sequences),
    readRate: all / median(times.map(({ read: seconds }) => seconds)),
  };
}

function secondsOf(run) {
  const began = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - began) / 1e9;
}

/** Bytes of the weights that a step needs: only the experts that some token reached, and only some rows of the embedding. */
function weightBytes(config, experts, sequences) {
  const { hiddenDim: H, vocabSize: V, ffnDim: F, nExperts: E, queryDim, kvDim, topKExperts: K } = config;
  let numbers = V * H + sequences * H;
  for (let layer = 0; layer < config.nLayers; layer++) {
    const reached = new Set(experts.subarray(layer * sequences * K, (layer + 1) * sequences * K)).size;
    numbers += 2 * H * queryDim + 2 * H * kvDim + E * H + reached * 3 * F * H;
  }
  return 4 * numbers;
}

function report(model, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const { backend, instructionSet, threads } = model.kernels.info;
  const head = ['sequences', 'ms a step', 'tokens/s', 'weights a step, MB', 'GB/s', 'of reading in order'];
  if (rows[0].packed !== undefined) head.push('time with packed copies');
  const body = rows.map(({ sequences, seconds, packed, bytes, readRate }) => [
    String(sequences),
    (1000 * seconds).toFixed(2),
    (sequences / seconds).toFixed(0),
    (bytes / 1e6).toFixed(0),
    (bytes / seconds / 1e9).toFixed(1),
    `${((100 * bytes) / seconds / readRate).toFixed(0)} % of ${(readRate / 1e9).toFixed(1)}`,
    ...(packed === undefined ? [] : [`${(packed / seconds).toFixed(2)} x`]),
  ]);
  const size = (model.config.totalParams() * 4) / 1e9;
  const title = `${size.toFixed(2)} GB of weights; ${backend}, ${instructionSet}, threads: ${threads}`;
  return [title, '', line(head), line(head.map(() => '---:')), ...body.map(line), ''].join('\n');
}
