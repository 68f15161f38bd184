'use strict';
const http = require('node:http');
const net = require('node:net');
const { setTimeout: sleep } = require('node:timers/promises');
const { KINDS } = require('./faultCases');

const AT_ONCE = 16;
const ANSWER_MS = 20_000;

/**
 * Sends `count` malformed requests of all kinds in turn.
 * @param {URL} url
 * @param {{ count: number, seed: number, onProgress?: (answered: number) => void }} options
 * @returns {Promise<{ kinds: Record<string, Record<string, number>>, unexpected: string[] }>} answers by kind and status;
 *   'closed' for a connection that ended without one.
 */
async function sendFaults(url, { count, seed, onProgress }) {
  const { Lcg64 } = require('../..');
  const random = new Lcg64(seed);
  const names = Object.keys(KINDS);
  const kinds = Object.fromEntries(names.map((name) => [name, {}]));
  const unexpected = [];
  const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });
  let sent = 0;
  let answered = 0;
  const sender = async () => {
    while (sent < count) {
      const name = names[sent++ % names.length];
      const fault = KINDS[name](random);
      const { status, text } = fault.raw ? await sendRaw(url, fault.raw) : await send(url, fault, agent);
      kinds[name][status] = (kinds[name][status] ?? 0) + 1;
      if (!isRefusal(status, text))
        unexpected.push(`${name}: ${status} ${describe(fault)} -> ${text.slice(0, 200)}`);
      onProgress?.(++answered);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, sender));
  agent.destroy();
  return { kinds, unexpected };
}

/** A 4xx in OpenAI's shape whose message is a sentence. */
function isRefusal(status, text) {
  if (!(status >= 400 && status < 500)) return false;
  try {
    return /^[A-Z'][\s\S]*\.$|must/.test(JSON.parse(text).error.message);
  } catch {
    return false;
  }
}

function describe({ raw, body, path, method = 'POST' }) {
  return raw
    ? JSON.stringify(raw.toString('latin1').slice(0, 200))
    : `${method} ${path} ${String(body).slice(0, 200)}`;
}

function send(url, { path, method = 'POST', body }, agent) {
  return new Promise((done) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const options = { host: url.hostname, port: url.port, path, method, headers, agent, timeout: ANSWER_MS };
    const request = http.request(options, async (response) => {
      let text = '';
      try {
        for await (const part of response) text += part;
      } catch {}
      done({ status: response.statusCode, text });
    });
    // The server may refuse a body before all of it was sent, and then ends the connection: an error only without an answer.
    request.on('error', (error) => done({ status: 'closed', text: String(error) }));
    request.on('timeout', () => request.destroy(new Error('no answer in time')));
    request.end(body);
  });
}

/** Sends bytes and reads until the server ends the connection; without an answer, this side ends it after a while. */
function sendRaw(url, bytes) {
  return new Promise((done) => {
    const socket = net.connect(Number(url.port), url.hostname);
    let text = '';
    socket.setTimeout(ANSWER_MS, () => socket.destroy());
    socket.on('data', (part) => {
      text += part;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]);
      done({
        status: Number.isNaN(status) ? 'closed' : status,
        text: text.slice(text.indexOf('\r\n\r\n') + 4),
      });
    });
    socket.end(bytes);
  });
}

/**
 * Opens connections that never send a whole request: half send only a beginning, half then send a byte now and then.
 * @returns {Promise<number>} how many the server ended within `seconds`
 */
async function holdConnections(url, count, seconds) {
  let ended = 0;
  const sockets = Array.from({ length: count }, (_, i) => {
    const socket = net.connect(Number(url.port), url.hostname);
    socket.on('error', () => undefined);
    socket.on('end', () => {
      ended++;
    });
    socket.on('data', () => undefined);
    socket.write(i % 2 === 0 ? 'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n' : 'POST /v1');
    return socket;
  });
  for (let second = 0; second < seconds && ended < count; second++) {
    await sleep(1000);
    for (const [i, socket] of sockets.entries()) if (i % 4 === 0 && socket.writable) socket.write('X');
  }
  for (const socket of sockets) socket.destroy();
  return ended;
}

module.exports = { holdConnections, sendFaults };
