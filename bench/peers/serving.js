'use strict';
/** This library's side of the protocol that serving.py describes: one JSON object per line, over stdin and stdout. */
const readline = require('node:readline');
const { backendInfo } = require('../..');

/**
 * Says who this is and answers requests until stdin ends.
 * @param {(scenario: any) => any} prepare builds a scenario and returns, or promises, one run: a function whose number or list of
 *   numbers is told, or `{ run, numbersOf }`, where `numbersOf` makes them of what `run` returned
 * @param {Record<string, unknown>} [more] of the first line
 */
async function serve(prepare, more = {}) {
  answer({ ...hello(), ...more });
  /** @type {(() => unknown) | undefined} */
  let run;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    try {
      if (request.op === 'block') {
        answer({ timings_ns: timeTrials(run, request) });
        continue;
      }
      run = undefined; // before the next one is built: two large models need not fit
      let last;
      if (request.op === 'prepare') {
        const prepared = await prepare(request.scenario);
        run = prepared.run ?? prepared;
        for (let i = 0; i < request.warmup; i++) last = run?.();
        last = prepared.numbersOf?.(last) ?? last;
      }
      answer(typeof last === 'number' || Array.isArray(last) ? { value: last } : {});
    } catch (error) {
      answer({ error: String(error) });
    }
  }
}

/** Nanoseconds of a run, for each trial. */
function timeTrials(run, { trials, inner, untimed }) {
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

module.exports = { serve };
