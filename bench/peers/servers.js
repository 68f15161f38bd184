'use strict';
/** The servers of bench/serve.js --peer: ours as people start it, and llama.cpp's, with the same file, threads and room. */
const { spawn } = require('node:child_process');
const net = require('node:net');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { buildLlamaServer, librariesOf } = require('./llamaServer');

const MAIN = path.join(__dirname, '../../dist/cli/main.js');
/** Sequences at once, and tokens of each. */
const SEQUENCES = 64;
const CONTEXT = 256;
const START_MS = 120_000;

/** @param {{ model: string, threads: number }} options */
async function startOurs({ model, threads }) {
  const room = ['--max-batch', SEQUENCES, '--context-length', CONTEXT].map(String);
  const options = ['serve', model, '--port', '0', '--threads', String(threads), ...room];
  const child = spawn(process.execPath, [MAIN, ...options], { stdio: ['ignore', 'ignore', 'pipe'] });
  const url = await new Promise((done, fail) => {
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
      const [, found] = /is served at (\S+)/.exec(text) ?? [];
      if (found !== undefined) done(found);
    });
    child.on('exit', () => fail(new Error(`sgemoe serve ended: ${text}`)));
  });
  return { name: 'sgemoe', url, stop: () => child.kill('SIGKILL') };
}

/** @param {{ model: string, threads: number, llama: string, build: string }} options */
async function startLlama({ model, threads, llama, build }) {
  const program = buildLlamaServer(llama, build);
  const port = await freePort();
  const options = [
    '-m',
    path.resolve(model),
    '--host',
    '127.0.0.1',
    '--port',
    port,
    '-t',
    threads,
    '-tb',
    threads,
  ];
  options.push('-np', SEQUENCES, '-c', SEQUENCES * CONTEXT, '-ngl', 0);
  // It looks for the code of its processors in the working directory.
  const cwd = librariesOf(llama);
  const child = spawn(program, options.map(String), { cwd, stdio: ['ignore', 'ignore', 'ignore'] });
  const url = `http://127.0.0.1:${port}`;
  const end = performance.now() + START_MS;
  while (!(await answers(`${url}/health`))) {
    if (child.exitCode !== null || performance.now() > end) throw new Error('llama-server does not start');
    await sleep(100);
  }
  return { name: 'llama.cpp', url, stop: () => child.kill('SIGKILL') };
}

async function answers(url) {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false;
  }
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((done) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = /** @type {net.AddressInfo} */ (server.address());
      server.close(() => done(port));
    });
  });
}

module.exports = { startOurs, startLlama };
