'use strict';
/**
 * A process for bench/javascript.js, started with --log-deopt and --log-ic. It runs one kind of step and prints the places in
 * V8's log where the steps and the steady state begin. Arguments: the step's name, runs to warm up, runs to watch, the log.
 */
const fs = require('node:fs');
const { STEPS } = require('./steps');

const [name, warmup, runs, log] = process.argv.slice(2);
const { run } = STEPS[name]();
const first = fs.statSync(log).size;
for (let i = 0; i < Number(warmup); i++) run();
const steady = fs.statSync(log).size;
for (let i = 0; i < Number(runs); i++) run();
process.stdout.write(`\n${JSON.stringify({ first, steady })}`);
