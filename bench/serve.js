'use strict';
/**
 * Measures `sgemoe serve` under load: the server has its own process, and N clients each read one stream after the other over
 * loopback. Prints as Markdown the requests/s, the tokens/s, the times to the first token and between two arrivals, and how late a
 * 10 ms timer of the server's thread fires, with requests decoded together and one at a time.
 *
 *   node bench/serve.js
 *   node bench/serve.js --peer <folder> --model <file.gguf> [--rounds n]
 *
 * With --peer it measures both `sgemoe serve` and llama.cpp's server on a GGUF file, in turns: npm's node-llama-cpp is installed in the
 * folder, whose sources the server is built from, once (git, g++ and some minutes).
 */
const { fork } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const {
  addBackendOptions,
  applyBackendOptions,
  command,
  integer,
  start,
  UsageError,
} = require('./lib/command');
const { printRow } = require('./lib/markdown');
const { median } = require('./lib/stats');
const { complete, load, ms } = require('./lib/streamLoad');

const CLIENTS = [1, 8, 64];
const TOKENS = 48;
/** Before it is counted: 64 prompts at once take some seconds. */
const WARM_UP_SECONDS = 4;
const PROMPT = 'a prompt of some length, such as people write. ';

start(async () => {
  const program = command('serve.js', 'Measures a server under load.')
    .option('--seconds <n>', 'seconds of each row', integer(1, 60), 5)
    .option('--peer <folder>', "measure llama.cpp's server, too, from node-llama-cpp in this folder")
    .option('--model <file>', 'with --peer: the GGUF file that both serve')
    .option(
      '--build <folder>',
      "with --peer: where llama.cpp's server is built and kept",
      path.join(os.tmpdir(), 'sgemoe-llama-server'),
    )
    .option('--rounds <n>', 'with --peer: turns', integer(1, 100), 3);
  /** @type {any} */
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  await (options.peer === undefined ? measureAlone(options) : measureBeside(options));
});

async function measureAlone({ seconds }) {
  const head = ['batch', 'clients', 'requests/s', 'tokens/s', 'first token p50 / p95 / p99, ms'];
  printRow([...head, 'between arrivals p50 / p95 / p99, ms', 'timer late p99, ms']);
  printRow(Array.from({ length: 7 }, () => '---:'));
  for (const maxBatch of [64, 1]) {
    for (const clients of CLIENTS) await measure(maxBatch, clients, seconds);
  }
}

/** Measures one row with a new server, so that no row finds the cache of another. */
async function measure(maxBatch, clients, seconds) {
  const server = await startServer(maxBatch);
  await complete(server.url, bodyOf(0, 0));
  await server.delay();
  const all = await load(server.url, clients, seconds, bodyOf, WARM_UP_SECONDS);
  const late = await server.delay();
  server.stop();
  printRow([
    maxBatch,
    clients,
    (all.requests / seconds).toFixed(1),
    (all.tokens / seconds).toFixed(0),
    ms(all.firsts, [0.5, 0.95, 0.99]),
    ms(all.between, [0.5, 0.95, 0.99]),
    late.toFixed(1),
  ]);
}

/** A request whose prompt shares no beginning with those of others, so that no cache helps. */
function bodyOf(client, round) {
  const prompt = `${client} ${round} `.padEnd(100, PROMPT);
  return { prompt, max_tokens: TOKENS, seed: client, ignore_eos: true };
}

async function measureBeside({ peer, model, build, seconds, rounds, threads }) {
  if (model === undefined || !fs.existsSync(model))
    throw new UsageError('--peer needs --model, a GGUF file.');
  const { startLlama, startOurs } = require('./peers/servers');
  const { backendInfo } = require('..');
  const both = { model, llama: peer, build, threads: threads ?? backendInfo().threads };
  const servers = [await startOurs(both), await startLlama(both)];
  try {
    for (const { url } of servers) await complete(url, bodyOf(0, 0));
    process.stdout.write(
      `${both.threads} threads, ${rounds} rounds of ${seconds} s; medians of the rounds.\n\n`,
    );
    printRow([
      'clients',
      'server',
      'tokens/s',
      'first token p50 / p99, ms',
      'between arrivals p50 / p99, ms',
      'ratio',
    ]);
    printRow(['---:', '---', '---:', '---:', '---:', '---:']);
    for (const clients of CLIENTS) await compare(servers, clients, seconds, rounds);
  } finally {
    for (const { stop } of servers) stop();
  }
}

/** Loads the servers in turns; prints a row for each, and our rate over that of the peer. */
async function compare(servers, clients, seconds, rounds) {
  /** @type {number[][]} */
  const rates = servers.map(() => []);
  /** @type {{ firsts: number[], between: number[] }[]} */
  const times = servers.map(() => ({ firsts: [], between: [] }));
  for (let round = 0; round < rounds; round++) {
    for (const [i, { url }] of servers.entries()) {
      const body = (client, n) => bodyOf(client, `${round}.${n}`);
      const { tokens, firsts, between } = await load(url, clients, seconds, body, WARM_UP_SECONDS);
      rates[i].push(tokens / seconds);
      times[i].firsts.push(...firsts);
      times[i].between.push(...between);
    }
  }
  const ratio = median(rates[0].map((rate, round) => rate / rates[1][round]));
  for (const [i, { name }] of servers.entries()) {
    const rate = median(rates[i]).toFixed(0);
    const { firsts, between } = times[i];
    const told = i === 0 ? `${ratio.toFixed(2)}x` : '';
    printRow([clients, name, rate, ms(firsts, [0.5, 0.99]), ms(between, [0.5, 0.99]), told]);
  }
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
