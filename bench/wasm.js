'use strict';
/**
 * Compares WebAssembly with the reference backend and the addon's own kernels, each on one thread, in turns: a matmul, a tiny
 * train step, a token of decoding. Prints Markdown.
 *
 *   node bench/wasm.js
 */
const { command, integer, start } = require('./lib/command');
const { median } = require('./lib/stats');

/** @type {import('../dist/backend').BackendRequest[]} */
const BACKENDS = ['reference', 'wasm', 'builtin'];
const SIDE = 512;
const [BATCH, SEQ] = [2, 32];
const WARMUP = 3;

start(async () => {
  const program = command('wasm.js', 'Compares WebAssembly with the reference backend and the addon.');
  const { trials } = program.option('--trials <n>', 'turns of each backend', integer(3), 15).parse().opts();
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
  process.stdout.write(`${kernels[2].info.instructionSet}, medians of ${trials}\n\n${table.join('\n')}\n`);
});

/** Median milliseconds of each backend. */
function inTurns(runs, trials) {
  for (const run of runs) for (let i = 0; i < WARMUP; i++) run();
  const times = runs.map(() => []);
  for (let trial = 0; trial < trials; trial++) {
    runs.forEach((run, i) => {
      const began = performance.now();
      run();
      times[i].push(performance.now() - began);
    });
  }
  return times.map(median);
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
