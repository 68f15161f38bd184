'use strict';
const { PerformanceObserver } = require('node:perf_hooks');
const { setImmediate } = require('node:timers/promises');

/** @type {{ start: number, duration: number }[]} in ms of this thread's performance.now() */
const seen = [];
const observer = new PerformanceObserver((list) => keep(list.getEntries()));
let watching = false;

/** Starts to record the garbage collections of this thread. */
function watchGc() {
  if (watching) return;
  watching = true;
  observer.observe({ entryTypes: ['gc'] });
}

/**
 * The collections that began in [from, to] of this thread's performance.now(), in ms.
 * @param {number} from
 * @param {number} to
 */
async function gcEntries(from, to) {
  watchGc();
  // Node delivers entries on the event loop, so wait for a turn of it.
  await setImmediate();
  await setImmediate();
  keep(observer.takeRecords());
  return seen.filter(({ start }) => start >= from && start <= to);
}

function keep(entries) {
  for (const { startTime, duration } of entries) seen.push({ start: startTime, duration });
}

module.exports = { gcEntries, watchGc };
