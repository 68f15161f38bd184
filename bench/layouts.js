'use strict';
/**
 * node bench/layouts.js [--tokens n] [--gflops n]
 *
 * A model on paper of data-parallel training on several machines, one rank each. Prints as Markdown, for 4 to 64 hosts at 10, 25 and 100
 * Gbit/s: the memory of a rank, the bytes that it sends in a step, and the efficiency, a rank's time alone over its time among the others.
 *
 *   memory     weights, gradients, the rank's part of AdamW's moments, activations: memoryBytes
 *   compute    6 FLOP a token and active parameter, at --gflops; the backward is two thirds of it
 *   sent       2 * 4 bytes * parameters * (n - 1) / n: half to sum the gradients in parts, half to hand out the weights of the parts
 *   hidden     the sums, behind the backward as far as it lasts (docs/distributed.md); what is handed out waits for the norm
 *
 * It knows no latency, no stragglers, no imbalance and no network that is shared with others, so it is a bound from above.
 * bench/distributed.js --bandwidth prints it beside what it measures.
 */
const { memoryBytes } = require('..');
const { command, integer, start } = require('./lib/command');
const { efficiencyOnPaper, leastSentBytes } = require('./lib/dataParallel');
const { printRow } = require('./lib/markdown');
const { configOf } = require('./lib/models');
const { HIDDEN_768 } = require('./peers/scenarios');

const MODELS = { small: 'small', hidden768: HIDDEN_768, default6_9b: 'default6_9b' };
const HOSTS = [1, 4, 16, 64];
const GBITS = [10, 25, 100];
const SEQ = 256;

start(async () => {
  /** @type {any} */
  const options = command('layouts.js', 'A model on paper of training on several machines.')
    .option('--tokens <n>', 'tokens of a rank in a step', integer(SEQ), 8192)
    .option('--gflops <n>', 'GFLOP/s of a host in a train step', integer(1), 2000)
    .parse()
    .opts();
  const columns = ['model', 'hosts', 'memory, GB a rank', 'sent, GB a step', 'compute, s'];
  printRow([...columns, ...GBITS.map((gbit) => `${gbit} Gbit/s`)]);
  printRow(Array.from({ length: columns.length + GBITS.length }, () => '---:'));
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
  const { total } = memoryBytes(config, { batch: Math.floor(tokens / SEQ), seq: SEQ, ranks: hosts });
  const gigabytes = [(total / 1e9).toFixed(1), (sentBytes / 1e9).toFixed(2)];
  return [name, hosts, ...gigabytes, computeS.toFixed(1), ...efficiencies];
}
