'use strict';
/** This library's side of the protocol that serving.py describes: one JSON object per line, over stdin and stdout. */
const readline = require('node:readline');
const { ModelConfig, MoETransformer, backendInfo } = require('../..');
const compiler = require('../axes/compiler');
const { SEED, WORK, batchOf } = require('../lib/models');

let run;

answer(hello());
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  try {
    answer(handle(JSON.parse(line)));
  } catch (error) {
    answer({ error: String(error) });
  }
});

function handle(request) {
  if (request.op === 'block') return { timings_ns: timeTrials(request) };
  run = undefined; // before the next one is built: two large models need not fit
  if (request.op === 'prepare') {
    run = prepare(request.scenario);
    for (let i = 0; i < request.warmup; i++) run();
  }
  return {};
}

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

/** Nanoseconds of a run, for each trial. */
function timeTrials({ trials, inner, untimed }) {
  for (let i = 0; i < untimed; i++) run();
  const timings = new Array(trials);
  for (let trial = 0; trial < trials; trial++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < inner; i++) run();
    timings[trial] = Number(process.hrtime.bigint() - start) / inner;
  }
  return timings;
}

function hello() {
  const { backend, blas, threads } = backendInfo();
  return {
    name: 'sgemoe',
    version: require('../../package.json').version,
    node: process.versions.node,
    backend,
    blas: blas === null ? null : `${blas.name} ${blas.version}`,
    blas_core: blas?.name === 'OpenBLAS' ? (blas.core ?? null) : null,
    threads,
  };
}

function answer(content) {
  process.stdout.write(`${JSON.stringify(content)}\n`);
}
