'use strict';
/**
 * node bench/boundary.js <kernel_bench> [--filter name] [--rounds n]
 *
 * Compares the time of a kernel called from JavaScript with that of a plain C++ loop of the same formula. kernel_bench is
 * built with -DSGEMOE_BENCH=ON; it and this process take turns. docs/benchmark.md has the commands.
 */
const { spawnSync } = require('node:child_process');
const { MOST_RUNS, UsageError, command, integer, start } = require('./lib/command');
const { median } = require('./lib/stats');

/** The goal: a call takes at most this many times the loop, plus this many nanoseconds for the call itself. */
const MOST_RATIO = 1.5;
const CALL_NS = 250;

const SAMPLES = 31;
const SAMPLE_NS = 100e3;
const WARMUP_CALLS = 300;

start(async () => {
  const program = command('boundary.js', 'Times kernels from C++ and from JavaScript against plain loops.')
    .argument('<kernel_bench>', 'the program of native/bench')
    .option('--filter <name>', 'only kernels whose name contains this', '')
    .option('--rounds <n>', 'turns of the two processes', integer(1, MOST_RUNS), 5)
    .parse();
  process.env.SGEMOE_THREADS = '1';
  const { filter, rounds } = program.opts();
  const results = new Map();
  for (let round = 0; round < rounds; round++) {
    for (const native of runNative(program.args[0], filter)) {
      const key = `${native.kernel} ${native.rows}x${native.cols}`;
      if (!results.has(key)) results.set(key, { call: callOf(native), loop: [], kernel: [], js: [] });
      const result = results.get(key);
      result.loop.push(native.loopNs);
      result.kernel.push(native.kernelNs);
      result.js.push(timeCall(result.call));
    }
  }
  process.stdout.write(table(results));
});

/** The lines of kernel_bench. @returns {{ kernel: string, rows: number, cols: number, loopNs: number, kernelNs: number }[]} */
function runNative(program, filter) {
  const { error, status, stdout, stderr } = spawnSync(program, [filter], { encoding: 'utf8' });
  if (error) throw new UsageError(`${program} can't be run: ${error.message}`);
  if (status !== 0) throw new UsageError(`${program} ended with ${status}: ${stderr}`);
  const lines = stdout.trim().split('\n').filter(Boolean);
  if (lines.length === 0) throw new UsageError(`no kernel's name contains '${filter}'.`);
  return lines.map((line) => JSON.parse(line));
}

function callOf({ kernel, rows, cols }) {
  const { getKernels } = require('../dist/backend');
  const { BOUNDARY_CASES } = require('./lib/boundaryCases');
  const kernels = getKernels();
  const call = BOUNDARY_CASES[kernel](kernels, alignedArrays(kernels), rows, cols);
  for (let i = 0; i < WARMUP_CALLS; i++) call();
  return call;
}

/** Arrays that start on a cache line, as those of a model and of kernel_bench do. */
function alignedArrays(kernels) {
  const { normals } = require('./lib/normals');
  const aligned = (n) => {
    const all = new Float32Array(n + 16);
    const padding = kernels.alignmentPadding(all);
    return all.subarray(padding, padding + n);
  };
  const floats = (n, stream = 0) => {
    const x = aligned(n);
    x.set(normals(kernels, n, { stream }));
    return x;
  };
  return { floats, zeros: aligned, integers: (n, f) => Int32Array.from({ length: n }, (_, i) => f(i)) };
}

/** Median nanoseconds of a call. */
function timeCall(call) {
  const run = (calls) => {
    const began = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) call();
    return Number(process.hrtime.bigint() - began) / calls;
  };
  const calls = Math.ceil(SAMPLE_NS / run(10));
  return median(Array.from({ length: SAMPLES }, () => run(calls)));
}

function table(results) {
  const lines = [
    '| kernel | C loop, ns | from C++, ns | from JavaScript, ns | C++ / loop | goal used |',
    '| --- | ---: | ---: | ---: | ---: | ---: |',
  ];
  for (const [key, result] of results) {
    const [loop, kernel, js] = [result.loop, result.kernel, result.js].map(median);
    const used = js / (MOST_RATIO * loop + CALL_NS);
    const times = [loop, kernel, js].map((ns) => Math.round(ns)).join(' | ');
    lines.push(`| ${key} | ${times} | ${(kernel / loop).toFixed(2)} | ${Math.round(100 * used)} % |`);
  }
  return `${lines.join('\n')}\n`;
}
