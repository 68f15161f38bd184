'use strict';
/** Clients that read one stream of /v1/completions after the other, and note when something arrives. */
const http = require('node:http');
const { quantile, sort } = require('./stats');

/**
 * @typedef {object} Arrivals
 * @property {number} began when the request was made
 * @property {number[]} at when each piece arrived; what comes in one chunk arrives together
 * @property {number | null} tokens tokens by the server's own count, null if the stream was left before its end
 */

/**
 * Loads a server for some seconds, after a warm-up in which the clients get out of step. What arrives later counts: a piece as
 * many tokens as those of all finished answers have on average, since an answer that was left doesn't tell its tokens.
 * @param {string} url
 * @param {number} clients
 * @param {number} seconds
 * @param {(client: number, round: number) => object} bodyOf the request's body
 */
async function load(url, clients, seconds, bodyOf, warmUpSeconds = 0) {
  const begin = performance.now() + 1000 * warmUpSeconds;
  const end = begin + 1000 * seconds;
  /** @type {{ requests: number, tokens: number, firsts: number[], between: number[] }} */
  const all = { requests: 0, tokens: 0, firsts: [], between: [] };
  const finished = { pieces: 0, tokens: 0 };
  let pieces = 0;
  const client = async (i) => {
    for (let round = 1; performance.now() < end; round++) {
      const { began, at, tokens } = await complete(url, bodyOf(i, round), end);
      if (tokens !== null) {
        finished.pieces += at.length;
        finished.tokens += tokens;
        if (performance.now() >= begin) all.requests++;
      }
      if (at[0] >= begin) all.firsts.push(at[0] - began);
      for (let j = 0; j < at.length; j++) {
        if (at[j] < begin || at[j] > end) continue;
        pieces++;
        if (j > 0) all.between.push(at[j] - at[j - 1]);
      }
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, i) => client(i)));
  all.tokens = finished.pieces === 0 ? pieces : (pieces * finished.tokens) / finished.pieces;
  return all;
}

/**
 * Reads a stream until `end`.
 * @param {object} body its last event has the usage
 * @returns {Promise<Arrivals>}
 */
function complete(url, body, end = Number.POSITIVE_INFINITY) {
  const text = JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  const began = performance.now();
  /** @type {Arrivals} */
  const arrivals = { began, at: [], tokens: null };
  return new Promise((done, fail) => {
    // A connection each: llama.cpp's server closes kept ones while the next request is under way.
    const options = { method: 'POST', headers, agent: false };
    const request = http.request(new URL('/v1/completions', url), options, (response) => {
      if (response.statusCode !== 200) fail(new Error(`the server answered ${response.statusCode}`));
      let rest = '';
      response.setEncoding('utf8').on('data', (chunk) => {
        const events = (rest + chunk).split('\n\n');
        rest = /** @type {string} */ (events.pop());
        const now = performance.now();
        for (const event of events) note(event, now, arrivals);
        if (now > end) request.destroy();
      });
      response.on('error', () => undefined).on('close', () => done(arrivals));
    });
    request.on('error', (error) => (performance.now() > end ? done(arrivals) : fail(error)));
    request.end(text);
  });
}

/** @param {Arrivals} arrivals */
function note(event, now, arrivals) {
  if (!event.startsWith('data: {')) return;
  const { choices = [], usage } = JSON.parse(event.slice('data: '.length));
  if (usage) arrivals.tokens = usage.completion_tokens;
  // A text may wait for the rest of a character; then the event has none.
  if (choices[0]?.text) arrivals.at.push(now);
}

/** Quantiles in milliseconds, as text. */
function ms(values, quantiles) {
  const sorted = sort(values);
  return quantiles.map((q) => (sorted.length === 0 ? '-' : quantile(sorted, q).toFixed(1))).join(' / ');
}

module.exports = { complete, load, ms };
