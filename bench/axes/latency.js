'use strict';
/** Times the fixed costs: of a forward that computes almost nothing, and of a program that does one forward and ends. */
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { configOf, modelParams, modelScenario } = require('../lib/models');

const PROGRAM = path.join(__dirname, '..', 'lib', 'coldProgram.js');

function processCase() {
  let report;
  return {
    run() {
      report = JSON.parse(
        execFileSync(process.execPath, [PROGRAM], {
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'inherit'],
        }),
      );
    },
    outputs: () => [report.logits],
    cpuNs: () => report.cpuNs,
    peakRss: () => report.peakRss,
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  modelScenario('latency_forward_b1_s8', { work: 'forward', batch: 1, seq: 8 }),
  {
    id: 'latency_process_cold',
    params: modelParams('tiny', configOf('tiny'), 1, 8),
    tokens: 8,
    prepare: processCase,
  },
];

module.exports = { scenarios };
