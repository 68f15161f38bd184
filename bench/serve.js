'use strict';
/**
 * Measures `sgemoe serve` under load: the server has its own process, and N clients each read one stream after the other over
 * loopback. Prints as Markdown the requests/s, the tokens/s, the times to the first token and between two tokens, and how late a
 * 10 ms timer of the server's thread fires, with requests decoded together and one at a time.
 *
 *   node bench/serve.js
 */
const http = require('node:http');
const { fork } = require('node:child_process');
const path = require('node:path');
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');
const { quantile, sort } = require('./lib/stats');

const CLIENTS = [1, 8, 64];
const TOKENS = 48;
const PROMPT = 'a prompt of some length, such as people write. ';

start(async () => {
  const program = command('serve.js', 'Measures a server under load.').option(
    '--seconds <n>',
    'seconds of each row',
    integer(1, 60),
    5,
  );
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  const head = ['batch', 'clients', 'requests/s', 'tokens/s', 'first token p50 / p95 / p99, ms'];
  line([...head, 'between tokens p50 / p95 / p99, ms', 'timer late p99, ms']);
  line(Array.from({ length: 7 }, () => '---:'));
  for (const maxBatch of [64, 1]) {
    for (const clients of CLIENTS) await measure(maxBatch, clients, options.seconds);
  }
});

/** Measures one row with a new server, so that no row finds the cache of another. */
async function measure(maxBatch, clients, seconds) {
  const server = await startServer(maxBatch);
  await complete(server.url, 0, 0);
  await server.delay();
  const end = performance.now() + 1000 * seconds;
  /** @type {{ requests: number, tokens: number, firsts: number[], between: number[] }} */
  const all = { requests: 0, tokens: 0, firsts: [], between: [] };
  const client = async (i) => {
    for (let round = 1; performance.now() < end; round++) {
      const { arrivals, began } = await complete(server.url, i, round, end);
      all.requests += arrivals.length >= TOKENS ? 1 : 0;
      all.tokens += arrivals.length;
      if (arrivals.length > 0) all.firsts.push(arrivals[0] - began);
      for (let j = 1; j < arrivals.length; j++) all.between.push(arrivals[j] - arrivals[j - 1]);
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, i) => client(i)));
  const late = await server.delay();
  server.stop();
  const ms = (values) => [0.5, 0.95, 0.99].map((q) => quantile(sort(values), q).toFixed(1)).join(' / ');
  line([
    maxBatch,
    clients,
    (all.requests / seconds).toFixed(1),
    (all.tokens / seconds).toFixed(0),
    ms(all.firsts),
    ms(all.between),
    late.toFixed(1),
  ]);
}

/** Reads a stream until `end` and notes when each token arrived. */
function complete(url, client, round, end = Number.POSITIVE_INFINITY) {
  const prompt = `${client} ${round} `.padEnd(100, PROMPT);
  const body = JSON.stringify({
    prompt,
    max_tokens: TOKENS,
    seed: client,
    stream: true,
    sgemoe: { routing: true },
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const began = performance.now();
  /** @type {number[]} */
  const arrivals = [];
  return new Promise((done, fail) => {
    const request = http.request(new URL('/v1/completions', url), { method: 'POST', headers }, (response) => {
      if (response.statusCode !== 200) fail(new Error(`the server answered ${response.statusCode}`));
      response.setEncoding('utf8').on('data', (text) => {
        const now = performance.now();
        // Tokens that came in one chunk arrived together.
        for (let i = text.split('"weights":').length - 1; i > 0; i--) arrivals.push(now);
        if (now > end) request.destroy();
      });
      response.on('error', () => undefined).on('close', () => done({ arrivals, began }));
    });
    request.on('error', (error) => (performance.now() > end ? done({ arrivals, began }) : fail(error)));
    request.end(body);
  });
}

async function startServer(maxBatch) {
  const options = { model: 'loaded', maxBatch };
  const child = fork(path.join(__dirname, 'lib', 'serverProcess.js'), [JSON.stringify(options)]);
  const next = () => new Promise((done) => child.once('message', done));
  const { url } = await next();
  return {
    url,
    stop: () => child.kill(),
    async delay() {
      child.send('delay');
      return (await next()).delay;
    },
  };
}

function line(cells) {
  process.stdout.write(`| ${cells.join(' | ')} |\n`);
}
