'use strict';
/**
 * A client that sends one request again and again: gets `{ url, body }`, then 'stop', and tells how many were answered. It has the lowest
 * priority, since a client elsewhere would not take the server's processors.
 */
const os = require('node:os');

os.setPriority(os.constants.priority.PRIORITY_LOW);
process.on('message', (/** @type {any} */ message) => {
  if (message === 'stop') abort.abort();
  else void pester(message);
});
const abort = new AbortController();

async function pester({ url, body }) {
  const request = {
    method: 'POST',
    body: Buffer.from(JSON.stringify(body)),
    headers: { 'content-type': 'application/json' },
    signal: abort.signal,
  };
  let answered = 0;
  while (!abort.signal.aborted) {
    const answer = await fetch(url, request).catch(() => null);
    if ((await answer?.text().catch(() => undefined)) !== undefined) answered++;
  }
  process.send?.(answered);
}
