'use strict';
/**
 * node bench/layouts.js [--tokens n] [--gflops n]
 *
 * A model on paper of training on several machines, one rank each. Prints as Markdown, for 4 to 64 hosts at 10, 25 and 100 Gbit/s: the
 * memory of a rank, the bytes that it sends in a step, and the efficiency, a rank's time alone over its time among the others. Layouts are
 * data parallel with divided moments (ZeRO, stage 1), and with it experts that are divided over so many neighbours (--expert-parallel).
 *
 *   memory     weights, gradients, the rank's part of AdamW's moments, activations, what sums take: memoryBytes
 *   compute    6 FLOP a token and active parameter, at --gflops; the backward is two thirds of it
 *   sent       of what n ranks have, 2 * 4 bytes * parameters * (n - 1) / n: half to sum the gradients in parts, half to hand out the weights
 *              of the parts; and, of experts divided over e ranks, 4 times the (e - 1) / e rows of hiddenDim floats that are others'
 *   hidden     the sums of what all ranks have, behind the backward as far as it lasts (docs/distributed.md). Weights wait for the norm, sums
 *              of experts follow the backward, and each layer waits for its rows
 *
 * It knows no latency, no stragglers, no imbalance and no network that is shared with others, so it is a bound from above.
 * bench/distributed.js --bandwidth prints it beside what it measures.
 */
const { memoryBytes } = require('..');
const { command, integer, start } = require('./lib/command');
const { printRow } = require('./lib/markdown');
const { configOf } = require('./lib/models');
const { efficiencyOnPaper, leastSent } = require('./lib/paper');
const { HIDDEN_768 } = require('./peers/scenarios');

const MODELS = { small: 'small', hidden768: HIDDEN_768, default6_9b: 'default6_9b' };
const HOSTS = [1, 4, 16, 64];
/** Ranks that together have each expert once, by model; those that don't divide the hosts are left out. */
const DIVIDED = { default6_9b: [4, 16] };
const GBITS = [10, 25, 100];
const SEQ = 256;

start(async () => {
  /** @type {any} */
  const options = command('layouts.js', 'A model on paper of training on several machines.')
    .option('--tokens <n>', 'tokens of a rank in a step', integer(SEQ), 8192)
    .option('--gflops <n>', 'GFLOP/s of a host in a train step', integer(1), 2000)
    .parse()
    .opts();
  const columns = ['model', 'hosts', 'experts over', 'memory, GB a rank', 'sent, GB a step', 'compute, s'];
  printRow([...columns, ...GBITS.map((gbit) => `${gbit} Gbit/s`)]);
  printRow(Array.from({ length: columns.length + GBITS.length }, () => '---:'));
  for (const name of Object.keys(MODELS)) {
    for (const ranks of HOSTS) {
      const groups = [1, ...(DIVIDED[name] ?? [])].filter((size) => ranks % size === 0);
      for (const expertParallel of groups) printRow(rowOf(name, { ranks, expertParallel }, options));
    }
  }
});

function rowOf(name, layout, { tokens, gflops }) {
  const config = configOf(MODELS[name]);
  const computeS = (6 * tokens * config.activeParams()) / (gflops * 1e9);
  const sent = leastSent(config, { ...layout, tokens });
  const efficiencies = GBITS.map((gbitPerSecond) => {
    return `${(100 * efficiencyOnPaper({ ...sent, computeS, gbitPerSecond })).toFixed(0)} %`;
  });
  const { total } = memoryBytes(config, { batch: Math.floor(tokens / SEQ), seq: SEQ, ...layout });
  const gigabytes = [(total / 1e9).toFixed(1), (sent.sentBytes / 1e9).toFixed(2)];
  return [name, layout.ranks, layout.expertParallel, ...gigabytes, computeS.toFixed(1), ...efficiencies];
}
