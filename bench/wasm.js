'use strict';
/**
 * Compares WebAssembly with the reference backend and the addon's own kernels, each on one thread, in turns: a matmul, a tiny
 * train step, a token of decoding. Prints Markdown: the least processor time of each, which other programs disturb least.
 *
 *   node bench/wasm.js
 */
const { command, integer, start } = require('./lib/command');

/** @type {import('../dist/backend/kernels').BackendRequest[]} */
const BACKENDS = ['reference', 'wasm', 'builtin'];
const SIDE = 512;
const [BATCH, SEQ] = [2, 32];
const WARMUP = 3;
/** Shorter runs are timed several in a row, since processor time counts in microseconds. */
const MIN_TURN_MS = 2;

start(async () => {
  const program = command('wasm.js', 'Compares WebAssembly with the reference backend and the addon.');
  const { trials } = program.option('--trials <n>', 'turns of each backend', integer(3), 60).parse().opts();
  process.env.SGEMOE_THREADS = '1';
  const { createKernels } = require('../dist/backend');
  const kernels = BACKENDS.map((name) => createKernels(name));
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const table = [line(['', ...BACKENDS.map((name) => `${name}, ms`), 'over reference', 'of builtin'])];
  table.push(line(['---', ...BACKENDS.map(() => '---:'), '---:', '---:']));
  for (const [name, prepare] of Object.entries({
    [`matmul ${SIDE} x ${SIDE} x ${SIDE}`]: matmul,
    'train step': trainStep,
    'token of decoding': decode,
  })) {
    const [reference, wasm, builtin] = inTurns(kernels.map(prepare), trials);
    table.push(
      line([
        name,
        ...[reference, wasm, builtin].map((ms) => ms.toPrecision(3)),
        (reference / wasm).toFixed(1),
        (builtin / wasm).toFixed(2),
      ]),
    );
  }
  const [, wasm, builtin] = kernels.map(({ info }) => info.instructionSet);
  process.stdout.write(`wasm: ${wasm}; builtin: ${builtin}; the least of ${trials}\n\n${table.join('\n')}\n`);
});

/** The least milliseconds of processor time of each backend. */
function inTurns(runs, trials) {
  const repeats = runs.map((run) => {
    for (let i = 0; i < WARMUP; i++) run();
    return Math.ceil(MIN_TURN_MS / processorMs(run, 1));
  });
  const least = runs.map(() => Number.POSITIVE_INFINITY);
  for (let trial = 0; trial < trials; trial++) {
    runs.forEach((run, i) => {
      least[i] = Math.min(least[i], processorMs(run, repeats[i]));
    });
  }
  return least;
}

/** The milliseconds of one run, from so many in a row. */
function processorMs(run, repeats) {
  const before = process.cpuUsage();
  for (let i = 0; i < repeats; i++) run();
  const { user, system } = process.cpuUsage(before);
  return Math.max(1, user + system) / 1000 / repeats;
}

function matmul(kernels) {
  const [a, b, c] = [0, 1, 2].map(() => kernels.memory.floats(SIDE * SIDE).fill(0.5));
  return () => kernels.sgemm(false, true, SIDE, SIDE, SIDE, 1, a, 0, SIDE, b, 0, SIDE, 0, c, 0, SIDE);
}

function trainStep(kernels) {
  const { ModelConfig, MoETransformer, Tensor, Trainer } = require('..');
  const config = ModelConfig.tiny();
  const trainer = new Trainer(MoETransformer.create(config, { seed: 1, kernels }), {});
  const data = Array.from({ length: BATCH * SEQ }, (_, i) => (i * 37) % config.vocabSize);
  const ids = Tensor.fromIds(data, [BATCH, SEQ]);
  return () => trainer.trainStep(ids, ids);
}

function decode(kernels) {
  const { Decoder, ModelConfig, MoETransformer } = require('..');
  const config = ModelConfig.tiny();
  const decoder = new Decoder(MoETransformer.create(config, { seed: 1, kernels }), {
    contextLength: SEQ + 1,
  });
  decoder.prefill(
    0,
    Array.from({ length: SEQ }, (_, i) => i),
  );
  const logits = new Float32Array(config.vocabSize);
  return () => {
    decoder.truncate(0, SEQ);
    decoder.prefill(0, [5], logits);
  };
}
