'use strict';
/**
 * node bench/layouts.js [--tokens n] [--gflops n]
 *
 * A model on paper of data-parallel training on several machines, one rank each. Prints as Markdown, for 4 to 64 hosts at 10, 25 and 100
 * Gbit/s: the bytes that a rank sends in a step, and the efficiency, a rank's time alone over its time among the others.
 *
 *   compute    6 FLOP a token and active parameter, at --gflops; the backward is two thirds of it
 *   sent       2 * 4 bytes * parameters * (n - 1) / n: half to sum the gradients in parts, half to hand out the parts
 *   hidden     the sums, behind the backward as far as it lasts (docs/distributed.md); what is handed out waits for the norm
 *
 * It knows no latency, no stragglers, no imbalance and no network that is shared with others, so it is a bound from above.
 * bench/distributed.js --bandwidth prints it beside what it measures.
 */
const { command, integer, start } = require('./lib/command');
const { efficiencyOnPaper, leastSentBytes } = require('./lib/dataParallel');
const { printRow } = require('./lib/markdown');
const { configOf } = require('./lib/models');
const { HIDDEN_768 } = require('./peers/scenarios');

const MODELS = { small: 'small', hidden768: HIDDEN_768, default6_9b: 'default6_9b' };
const HOSTS = [4, 8, 16, 64];
const GBITS = [10, 25, 100];

start(async () => {
  /** @type {any} */
  const options = command('layouts.js', 'A model on paper of training on several machines.')
    .option('--tokens <n>', 'tokens of a rank in a step', integer(1), 8192)
    .option('--gflops <n>', 'GFLOP/s of a host in a train step', integer(1), 2000)
    .parse()
    .opts();
  printRow(['model', 'hosts', 'sent, GB a step', 'compute, s', ...GBITS.map((gbit) => `${gbit} Gbit/s`)]);
  printRow(Array.from({ length: 4 + GBITS.length }, () => '---:'));
  for (const name of Object.keys(MODELS)) {
    for (const hosts of HOSTS) printRow(rowOf(name, hosts, options));
  }
});

function rowOf(name, hosts, { tokens, gflops }) {
  const config = configOf(MODELS[name]);
  const computeS = (6 * tokens * config.activeParams()) / (gflops * 1e9);
  const sentBytes = leastSentBytes(config.totalParams(), hosts);
  const efficiencies = GBITS.map((gbitPerSecond) => {
    return `${(100 * efficiencyOnPaper({ computeS, sentBytes, gbitPerSecond })).toFixed(0)} %`;
  });
  return [name, hosts, (sentBytes / 1e9).toFixed(2), computeS.toFixed(1), ...efficiencies];
}
