'use strict';
/**
 * Measures what one client's worst requests cost another client's running stream: the time between two of its tokens, alone and
 * while a neighbour, a process of its own, sends a prompt of 1 MB, has 1 MB tokenized, or has a chat template loop for ever, one
 * request after the other. Rounds of all cases alternate, so that the machine's other work meets them alike. Prints Markdown.
 *
 *   node bench/neighbours.js
 */
const http = require('node:http');
const { fork } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');
const { printRow } = require('./lib/markdown');
const { quantile, sort } = require('./lib/stats');

const TOKENS = 500;
/** Letters without a space: one word for the tokenizer. */
const LETTERS = Array.from({ length: 1_000_000 }, (_, i) =>
  String.fromCharCode(97 + ((i * i + (i >> 3)) % 26)),
).join('');

const CASES = [
  { name: 'alone', path: null, body: {} },
  { name: 'a prompt of 1 MB', path: '/v1/completions', body: { prompt: LETTERS } },
  { name: '1 MB to tokenize', path: '/tokenize', body: { prompt: LETTERS } },
  {
    name: 'a template of ten billion steps',
    path: '/v1/chat/completions',
    body: { messages: [{ role: 'user', content: 'loop' }] },
  },
];

start(async () => {
  const program = command(
    'neighbours.js',
    "Measures a stream beside another client's worst requests.",
  ).option('--rounds <n>', 'streams of each case', integer(1, 1000), 8);
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  const server = await startServer();
  await stream(server.url);
  const seen = CASES.map(() => ({ between: /** @type {number[]} */ ([]), requests: 0 }));
  for (let round = 0; round < options.rounds; round++) {
    for (const [i, { path: route, body }] of CASES.entries()) {
      const stop = route === null ? async () => 0 : pester(server.url + route, body);
      const arrivals = await stream(server.url);
      seen[i].requests += await stop();
      for (let j = 1; j < arrivals.length; j++) seen[i].between.push(arrivals[j] - arrivals[j - 1]);
    }
  }
  server.stop();
  printRow([
    "the neighbour's request",
    'answered',
    'between tokens p50 / p95 / p99, ms',
    'p99 more than alone, ms',
  ]);
  printRow(['---', '---:', '---:', '---:']);
  const p99 = ({ between }) => quantile(sort(between), 0.99);
  for (const [i, { name }] of CASES.entries()) {
    const { between, requests } = seen[i];
    const ms = [0.5, 0.95, 0.99].map((q) => quantile(sort(between), q).toFixed(1)).join(' / ');
    printRow([name, requests, ms, (p99(seen[i]) - p99(seen[0])).toFixed(1)]);
  }
});

/** Has a process of its own send a request again and again, until the returned function is called, which tells how many were answered. */
function pester(url, body) {
  const child = fork(path.join(__dirname, 'lib', 'pesterProcess.js'));
  child.send({ url, body });
  return async () => {
    child.send('stop');
    const [answered] = await once(child, 'message');
    child.disconnect();
    return answered;
  };
}

/** Reads one stream; returns when each token arrived. */
function stream(url) {
  const body = JSON.stringify({
    prompt: 'the cat',
    max_tokens: TOKENS,
    ignore_eos: true,
    stream: true,
    sgemoe: { routing: true },
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  /** @type {number[]} */
  const arrivals = [];
  return new Promise((done, fail) => {
    const request = http.request(new URL('/v1/completions', url), { method: 'POST', headers }, (response) => {
      if (response.statusCode !== 200) fail(new Error(`the server answered ${response.statusCode}`));
      response.setEncoding('utf8').on('data', (text) => {
        const now = performance.now();
        for (let i = text.split('"weights":').length - 1; i > 0; i--) arrivals.push(now);
      });
      response.on('error', fail).on('close', () => done(arrivals));
    });
    request.on('error', fail);
    request.end(body);
  });
}

async function startServer() {
  const options = { model: 'merges', maxBatch: 4 };
  const child = fork(path.join(__dirname, 'lib', 'serverProcess.js'), [JSON.stringify(options)]);
  const { url } = await new Promise((done) => child.once('message', done));
  return { url, stop: () => child.kill() };
}
