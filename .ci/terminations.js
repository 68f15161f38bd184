'use strict';
/**
 * Ends threads and processes that load the addon, or compute with it, at random moments, and counts how they end:
 *
 *   node .ci/terminations.js [count] [addon] [seed]
 *
 * Each of `count` child processes (300) plays one of the scenes below in turn: workers that load the addon, or call
 * kernels without a pause, on two threads of the pool, are terminated, or the process exits. A child must end with the
 * code of its scene, without a signal and without output. Prints a line for each that doesn't, the seed, and
 * "N of COUNT ended as they should"; exits with 1 unless all did.
 */
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const ts = require('typescript');

const [count, addon, seed] = [
  Number(process.argv[2] ?? 300),
  path.resolve(process.argv[3] ?? path.join(__dirname, '..', 'build', 'Release', 'sgemoe.node')),
  Number(process.argv[4] ?? Date.now() % 1e9),
];
const LIMIT_MS = 120_000;

/** Functions for a child: `random()`, `sleep(ms)`, and `start(body)`, a worker that loads the addon, then runs the body. */
const PRELUDE = `
  const { Worker } = require('node:worker_threads');
  let state = Number(process.env.SEED);
  const random = () => { // mulberry32
    let t = (state += 0x6d2b79f5);
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const LOAD = "const { parentPort } = require('node:worker_threads');" +
    "const addon = require(process.env.ADDON); const load = () => addon.create('builtin', null, null);";
  const start = (body) => new Worker(LOAD + body, { eval: true });
`;

/**
 * Program of a worker: calls every kernel without a pause, in turn with valid arguments, which takes a microsecond, and with
 * none, which throws; in between it calls long kernels that share their work with the pool. It posts 'at work' first.
 */
const WORK = `
  const kernels = load();
  kernels.setThreads(2);
  const decode = (value) =>
    value?.floats !== undefined ? new Float32Array(value.floats)
    : value?.ints !== undefined ? new Int32Array(value.ints) : value;
  const calls = JSON.parse(process.env.CALLS).map(([name, values]) => [kernels[name], values.map(decode)]);
  const n = 192, T = 256, D = 64;
  const f = (size) => new Float32Array(size).fill(0.01), i = (size) => new Int32Array(size);
  const a = f(n * n), b = f(n * n), c = f(n * n), q = f(T * D), k = f(T * D), v = f(T * D), o = f(T * D), lse = f(T);
  const big = f(1 << 18), out = f(1 << 18), starts = i(1), lengths = i(1).fill(T), targets = i(512), losses = f(512);
  const long = [
    () => kernels.sgemm(false, true, n, n, n, 1, a, 0, n, b, 0, n, 0, c, 0, n),
    () => kernels.attentionForward(q, 0, D, k, 0, D, 0, v, 0, D, 0, o, 0, D, lse, 0, starts, 0, lengths, 0, 1, T, 1, 1, D, 1),
    () => kernels.exp(big, 0, out, 0, big.length),
    () => kernels.crossEntropy(big, 0, targets, 0, losses, 0, 512, 512, -1, 1, true),
    () => kernels.sumSquares(big, 0, big.length),
    () => kernels.randomNormal(out, 0, out.length, 1, 2, 3, 1),
    () => kernels.softmaxForward(big, 0, out, 0, 512, 512),
    () => kernels.swigluForward(big, 0, out, 0, 256, 512),
    () => kernels.gatherRows(big, 0, 512, targets, 0, out, 0, 512, 512),
    () => kernels.adamw(big, 0, out, 0, c, 0, a, 0, a.length, 1e-3, 0.9, 0.9, 1e-8, 0, 1, 1, 1),
  ];
  parentPort.postMessage('at work');
  for (let turn = 0; ; turn++) {
    if (turn % 50 === 0) long[(turn / 50) % long.length]();
    const [kernel, values] = calls[turn % calls.length];
    kernel(...values);
    try { kernel(); } catch {}
  }
`;

/** The code that the process must end with, and what it does. */
const SCENES = {
  'six workers terminated while they load': [
    0,
    `const workers = Array.from({ length: 6 }, () => start('for (;;) load();'));
     Promise.all(workers.map(async (worker) => { await sleep(random() * 120); await worker.terminate(); }));`,
  ],
  'exit while six workers load': [
    7,
    `for (let i = 0; i < 6; i++) start('for (;;) load();');
     setTimeout(() => process.exit(7), random() * 150);`,
  ],
  'three workers terminated inside kernels': [
    0,
    `const workers = Array.from({ length: 3 }, () => start(${JSON.stringify(WORK)}));
     for (const worker of workers) {
       worker.once('message', async () => { await sleep(random() * 60); await worker.terminate(); });
     }`,
  ],
  'exit while three workers are inside kernels': [
    7,
    `let ready = 0;
     for (let i = 0; i < 3; i++) {
       start(${JSON.stringify(WORK)}).once('message', () => {
         if (++ready === 3) setTimeout(() => process.exit(7), random() * 40);
       });
     }`,
  ],
  'exit inside a worker while others load and compute': [
    0,
    `start(${JSON.stringify(WORK)}).once('message', function () { setTimeout(() => this.terminate(), random() * 60); });
     for (let i = 0; i < 3; i++) start('load(); process.exit(0)');`,
  ],
};

/** [kernel, arguments] as JSON for the kernels with valid arguments in the conformance suite that are numbers and arrays. */
function validCalls() {
  const folder = path.join(__dirname, '..', 'test', 'backend', 'conformance');
  const compilerOptions = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 };
  // Of what it requires, too.
  Module._extensions['.ts'] = (module, name) =>
    module._compile(ts.transpileModule(fs.readFileSync(name, 'utf8'), { compilerOptions }).outputText, name);
  const { readSignatures } = require(path.join(folder, 'contract.ts'));
  const { VALID } = require(path.join(folder, 'validArguments.ts'));
  const encode = (value) =>
    value instanceof Float32Array
      ? { floats: [...value] }
      : value instanceof Int32Array
        ? { ints: [...value] }
        : value;
  const calls = readSignatures()
    .filter(({ kernel }) => kernel in VALID)
    .map(({ kernel, parameters }) => {
      const values = VALID[kernel]();
      return [kernel, parameters.map(({ name }) => encode(values[name]))];
    });
  // Objects of a backend, such as stored matrices, don't travel.
  const travels = (value) =>
    typeof value !== 'object' || value === null || 'floats' in value || 'ints' in value;
  return JSON.stringify(calls.filter(([, values]) => values.every(travels)));
}

const CALLS = validCalls();

function play(number) {
  const names = Object.keys(SCENES);
  const name = names[number % names.length];
  const [code, body] = SCENES[name];
  const env = { ...process.env, ADDON: addon, CALLS, SEED: String(seed + number), NODE_OPTIONS: '' };
  const child = spawn(process.execPath, ['-e', PRELUDE + body], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  let said = '';
  child.stderr.on('data', (data) => {
    said += data;
  });
  return new Promise((done) => {
    child.once('close', (gotCode, signal) => {
      clearTimeout(timer);
      const right = gotCode === code && signal === null && said === '';
      if (!right) console.log(`${number}, ${name}: code ${gotCode}, signal ${signal}: ${said.slice(0, 300)}`);
      done(right);
    });
  });
}

async function main() {
  let right = 0;
  for (let number = 0; number < count; number++) right += await play(number);
  console.log(`seed ${seed}: ${right} of ${count} ended as they should`);
  process.exitCode = right === count ? 0 : 1;
}

main();
