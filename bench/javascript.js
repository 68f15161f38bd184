'use strict';
/**
 * Measures the JavaScript side of a step of the tiny model: its share of the time, the calls of kernels, allocations, and code
 * that V8 gives up optimising. Prints Markdown.
 *
 *   node bench/javascript.js
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { addBackendOptions, applyBackendOptions, command, start } = require('./lib/command');
const {
  bufferBytesOf,
  countingKernels,
  heapOf,
  idleKernels,
  typedArraysOf,
} = require('./lib/javascriptSide');
const { median } = require('./lib/stats');

const WARMUP = 3000;
const WATCHED = 1000;
const TRIALS = 41;
const TRIAL_RUNS = 100;
const MOST_PLACES = 6;

start(async () => {
  const program = command('javascript.js', "Takes apart the JavaScript side of the tiny model's steps.");
  applyBackendOptions(addBackendOptions(program).parse().opts());
  const { STEPS } = require('./lib/steps');
  const kernels = require('../dist/backend').getKernels();
  const callUs = emptyCallUs(kernels);
  const rows = Object.keys(STEPS).map((name) => examine(name, STEPS[name], kernels, callUs));
  process.stdout.write(report(rows, callUs));
});

function examine(name, make, kernels, callUs) {
  const { run } = make(kernels);
  const asleep = idleKernels(kernels);
  const idle = make(asleep.kernels);
  idle.run();
  asleep.idle();
  warm(run);
  warm(idle.run);
  const calls = callsOf(make, kernels, 2);
  return {
    name,
    us: timeUs(run),
    javascriptUs: timeUs(idle.run),
    callsUs: calls * callUs,
    calls,
    callsOfBlock: callsOf(make, kernels, 3) - calls,
    typedArrays: typedArraysOf(run),
    bufferBytes: bufferBytesOf(run),
    heap: heapOf(run, WATCHED),
    ...watchEngine(name),
  };
}

function warm(run) {
  for (let i = 0; i < WARMUP; i++) run();
}

/** Median microseconds of a run. */
function timeUs(run) {
  const trials = Array.from({ length: TRIALS }, () => {
    const began = process.hrtime.bigint();
    for (let i = 0; i < TRIAL_RUNS; i++) run();
    return Number(process.hrtime.bigint() - began) / 1000 / TRIAL_RUNS;
  });
  return median(trials);
}

/** A matmul without rows passes three arrays, ten numbers and two flags, and all checks run. */
function emptyCallUs(kernels) {
  const x = new Float32Array(64);
  const run = () => kernels.sgemm(false, true, 0, 8, 8, 1, x, 0, 8, x, 0, 8, 0, x, 0, 8);
  warm(run);
  return timeUs(run);
}

function callsOf(make, kernels, nLayers) {
  const counter = countingKernels(kernels);
  const { run } = make(counter.kernels, nLayers);
  run();
  counter.calls = 0;
  run();
  return counter.calls;
}

/** Deoptimisations of the steady state and inline caches that became megamorphic in a step, from V8's own log of a process that only does this. */
function watchEngine(name) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sgemoe-javascript-'));
  const log = path.join(folder, 'v8.log');
  const flags = ['--log-deopt', '--log-ic', '--no-logfile-per-isolate', `--logfile=${log}`];
  const child = path.join(__dirname, 'lib', 'deoptProgram.js');
  try {
    const output = execFileSync(process.execPath, [
      ...flags,
      child,
      name,
      String(WARMUP),
      String(WATCHED),
      log,
    ]);
    // V8 itself may have said something before.
    const { first, steady } = JSON.parse(output.toString().split('\n').at(-1) ?? '');
    const text = fs.readFileSync(log);
    const lines = (buffer) => buffer.toString('utf8').split('\n');
    return {
      deopts: lines(text.subarray(steady)).filter((line) => line.startsWith('code-deopt,')),
      megamorphic: lines(text.subarray(first)).filter(isMegamorphic).map(placeOf),
    };
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** `<kind>IC,<code>,<time>,<line>,<column>,<old state>,<new state>,<map>,<key>,<modifier>,<reason>,<script>` */
function isMegamorphic(line) {
  const [kind, , , , , before, after] = line.split(',');
  return kind.endsWith('IC') && after === 'N' && before !== 'N' && line.includes('/dist/');
}

function placeOf(line) {
  const [, , , row, , , , , key] = line.split(',');
  const [, file] = /\/dist\/([^,]*)/.exec(line) ?? [];
  return `${file}:${row} ${key}`;
}

function report(rows, callUs) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const percent = (part, whole) => `${((100 * part) / whole).toFixed(1)} %`;
  const figures = {
    'time, us': (r) => r.us.toFixed(1),
    'JavaScript alone, us': (r) => `${r.javascriptUs.toFixed(2)} (${percent(r.javascriptUs, r.us)})`,
    'calls of kernels': (r) => `${r.calls}, ${r.callsOfBlock} a block`,
    [`calls x ${callUs.toFixed(3)} us of an empty one`]: (r) =>
      `${r.callsUs.toFixed(1)} (${percent(r.callsUs, r.us)})`,
    'typed arrays and views made': (r) => String(r.typedArrays),
    'bytes of array buffers': (r) => r.bufferBytes.toFixed(0),
    'bytes on the heap': (r) => r.heap.reduce((sum, { bytes }) => sum + bytes, 0).toFixed(0),
    [`deoptimisations in ${WATCHED} steps after ${WARMUP}`]: (r) => String(r.deopts.length),
    'places that became megamorphic': (r) => String(r.megamorphic.length),
  };
  const table = [line(['', ...rows.map(({ name }) => name)]), line(['---', ...rows.map(() => '---:')])];
  for (const [what, figure] of Object.entries(figures)) table.push(line([what, ...rows.map(figure)]));
  return `${[...table, ...rows.flatMap(details)].join('\n')}\n`;
}

function details({ name, heap, deopts, megamorphic }) {
  const places = heap
    .slice(0, MOST_PLACES)
    .map(({ where, bytes }) => `- ${bytes.toFixed(0)} bytes: ${where}`);
  const found = [
    ...places,
    ...deopts.map((line) => `- ${line}`),
    ...megamorphic.map((place) => `- megamorphic: ${place}`),
  ];
  return ['', `${name}:`, ...found];
}
