'use strict';
/** Loads the library, constructs the tiny model, forwards once and prints how long that took: see axes/latency.js. */
const { MoETransformer, Tensor } = require('../..');
const { peakRss } = require('./memory');

const ids = Tensor.fromIds([[0, 1, 2, 3, 4, 5, 6, 7]]);
const logits = MoETransformer.tiny({ seed: 42 }).forward(ids);
const { userCPUTime, systemCPUTime } = process.resourceUsage();
const report = {
  logits: Array.from(logits.data.subarray(0, logits.shape[2])),
  cpuNs: (userCPUTime + systemCPUTime) * 1000,
  peakRss: peakRss(),
};
process.stdout.write(JSON.stringify(report));
