'use strict';
/**
 * Makes steps of one kind and prints, as JSON, when each began and ended (nanoseconds of the monotonic clock):
 * node bench/lib/scalingProgram.js '{"work":"train","model":"tiny","batch":2,"seq":8,"warmup":3,"steps":5}'
 */
const { WORK, configOf } = require('./models');

const { work, model, batch, seq, warmup, steps } = JSON.parse(process.argv[2]);
const { run } = WORK[work](configOf(model), batch, seq);
for (let i = 0; i < warmup; i++) run();
const times = Array.from({ length: steps }, () => {
  const begin = Number(process.hrtime.bigint());
  run();
  return { begin, end: Number(process.hrtime.bigint()) };
});
process.stdout.write(JSON.stringify(times));
