'use strict';
/**
 * Sends malformed requests to a `sgemoe serve` in another process: fuzzed JSON, wrong types, huge numbers, deep nesting, bytes
 * that are not UTF-8, bodies that are too long, bad headers, bytes that are not HTTP, connections that never finish. The server
 * has to refuse each with a sentence, and to answer in between and afterwards; otherwise the exit code is 1. Prints Markdown.
 *
 *   node bench/faults.js
 */
const { fork } = require('node:child_process');
const path = require('node:path');
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');
const { holdConnections, sendFaults } = require('./lib/faultRun');

const MEMORY_SAMPLES = 10;
/** The server gives headers 10 s. */
const HOLD_SECONDS = 15;

start(async () => {
  const program = command('faults.js', 'Sends malformed requests to a server.')
    .option('--requests <n>', 'how many', integer(1, 10_000_000), 20_000)
    .option('--connections <n>', 'connections that never send a whole request', integer(0, 1000), 200)
    .option('--seed <n>', 'seed of the requests', integer(0), 1);
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  const server = await startServer();
  try {
    const passed = await run(server, options);
    if (!passed) process.exitCode = 1;
  } finally {
    server.child.kill();
  }
});

async function run(server, { requests, connections, seed }) {
  const memory = [];
  const sample = Math.max(1, Math.floor(requests / MEMORY_SAMPLES));
  const onProgress = (answered) => {
    if (answered % sample === 0) server.memory().then((bytes) => memory.push(Math.round(bytes / 2 ** 20)));
  };
  const started = performance.now();
  const { kinds, unexpected } = await sendFaults(server.url, { count: requests, seed, onProgress });
  const seconds = (performance.now() - started) / 1000;
  const held = connections === 0 ? 0 : await holdConnections(server.url, connections, HOLD_SECONDS);
  const answers = await stillAnswers(server.url);
  const lines = Object.entries(kinds).map(([kind, counts]) => {
    const sum = Object.values(counts).reduce((total, n) => total + n, 0);
    const answer = Object.entries(counts).map(([status, n]) => `${status}: ${n}`);
    return `| ${kind} | ${sum} | ${answer.join(', ')} |`;
  });
  process.stdout.write(
    [
      '| Kind | Requests | Answers |',
      '|---|---:|---|',
      ...lines,
      '',
      `${requests} requests in ${seconds.toFixed(0)} s; not refused with a sentence: ${unexpected.length}.`,
      `Connections that never sent a whole request: ${connections}, ended by the server: ${held}.`,
      `MiB resident on the way: ${memory.join(', ')}. A completion afterwards: ${answers ? 'answered' : 'NOT answered'}.`,
      ...unexpected.slice(0, 20),
      '',
    ].join('\n'),
  );
  return unexpected.length === 0 && held === connections && answers && server.child.exitCode === null;
}

async function stillAnswers(url) {
  const body = JSON.stringify({ prompt: 'still there', max_tokens: 2 });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(new URL('/v1/completions', url), { method: 'POST', headers, body });
  const answer = /** @type {{ usage: { completion_tokens: number } }} */ (await response.json());
  return response.status === 200 && answer.usage.completion_tokens === 2;
}

async function startServer() {
  const child = fork(path.join(__dirname, 'lib', 'serverProcess.js'), [
    JSON.stringify({ model: 'tiny', maxBatch: 8 }),
  ]);
  const next = () =>
    new Promise((done, fail) => {
      child.once('message', done);
      child.once('exit', (code) => fail(new Error(`the server ended with ${code}`)));
    });
  const { url } = await next();
  child.setMaxListeners(0);
  const memory = async () => {
    const answer = next();
    child.send('memory');
    return (await answer).memory;
  };
  return { child, url: new URL(url), memory };
}
