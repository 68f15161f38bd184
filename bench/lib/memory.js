'use strict';
const fs = require('node:fs');
const v8 = require('node:v8');
const vm = require('node:vm');
const { gcEntries } = require('./gc');
const { median } = require('./stats');

const SAMPLES = 5;
const CALLS_PER_SAMPLE = 4;
/** Number of single calls tried if the collector ran in every sample, as it may when a call makes a whole model. */
const SINGLE_CALLS = 20;

/**
 * Highest resident memory of this process so far, in bytes. On Linux it is VmHWM, which starts afresh with the program;
 * ru_maxrss starts at the parent's value at the fork.
 */
function peakRss() {
  if (process.platform === 'linux') {
    const found = /^VmHWM:\s+(\d+) kB$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'));
    if (found !== null) return Number(found[1]) * 1024;
  }
  return process.resourceUsage().maxRSS * 1024;
}

/**
 * Bytes that one call of `run` allocates, the median over a few samples of some calls each:
 * - heap: objects in V8's heap
 * - external: ArrayBuffers, SharedArrayBuffers and other memory that V8 knows of
 * - native: growth of the process's resident memory beyond these two. It is a lower bound: memory that the C library or
 *   BLAS already holds and uses again does not show.
 *
 * A sample in which the garbage collector ran would come out too small; such samples count only when all are so.
 *
 * @param {() => void} run
 * @param {boolean} once for a run of seconds: one call, one sample
 */
async function allocatedBytes(run, once = false) {
  const samples = [];
  for (let i = 0; i < (once ? 1 : SAMPLES); i++) samples.push(await sample(run, once ? 1 : CALLS_PER_SAMPLE));
  const undisturbed = () => samples.filter((taken) => taken.undisturbed);
  for (let i = 0; !once && i < SINGLE_CALLS && undisturbed().length === 0; i++)
    samples.push(await sample(run, 1));
  const used = undisturbed().length > 0 ? undisturbed() : samples;
  const [heap, external, native] = ['heap', 'external', 'native'].map((part) =>
    Math.round(median(used.map((taken) => taken[part]))),
  );
  return { heap, external, native };
}

/** What one of `calls` runs allocates, and whether the garbage collector did not run meanwhile. */
async function sample(run, calls) {
  const collect = forcedCollection();
  collect();
  collect(); // waits until another thread has freed the buffers of the first collection, which would count as negative
  const before = snapshot();
  const from = performance.now();
  for (let call = 0; call < calls; call++) run();
  const after = snapshot();
  const collected = await gcEntries(from, performance.now());
  return { ...difference(before, after, calls), undisturbed: collected.length === 0 };
}

function snapshot() {
  const resident = process.memoryUsage.rss();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return { resident, heapUsed, external, arrayBuffers };
}

function difference(before, after, calls) {
  const grown = (key) => Math.max(0, after[key] - before[key]);
  const heap = grown('heapUsed');
  // `external` leaves shared buffers out, `arrayBuffers` everything that isn't a buffer.
  const external = Math.max(grown('external'), grown('arrayBuffers'));
  const native = Math.max(0, grown('resident') - heap - external);
  return { heap: heap / calls, external: external / calls, native: native / calls };
}

let collection;

/** V8's gc(), which exists only on request: it is requested after the timed runs, so that it can't change them. */
function forcedCollection() {
  if (collection === undefined) {
    v8.setFlagsFromString('--expose-gc');
    collection = vm.runInNewContext('gc');
  }
  return collection;
}

module.exports = { allocatedBytes, peakRss };
