'use strict';
/**
 * What a step would take on more threads: its critical path from the regions that the pool ran on one thread
 * (native/bench/parallel_logged.cc).
 *
 *   time(P) = outside + sum over regions of (hand-over(P) + longest(P))
 *
 * outside: JavaScript and what isn't shared. longest(P): the time of the thread that ends last, when P threads take the chunks as
 * native/parallel.cc does. It knows no limit of the memory's rate and no core that another program takes, so it is a bound.
 *
 * @typedef {{ begin: number, work: number, chunks: number[] }} Region nanoseconds
 * @typedef {{ begin: number, end: number }} Step
 * @typedef {{ regions: number, outside: number, handOver: number, longest: number, total: number }} Path shared regions; nanoseconds
 */

/** Regions of less estimated work run on one thread (native/parallel.cc). */
const LEAST_SHARED_NS = 4e3;
/**
 * What a region costs beside its chunks when the workers spin: measured with two threads (0.66 us), and a cache line written and one read
 * for each further thread, at 50 ns each, which is what a line from another core takes.
 */
const REGION_NS = 560;
const THREAD_NS = 100;

/** Reads a log. @param {Float64Array} numbers @returns {Region[]} */
function regionsOf(numbers) {
  const regions = [];
  for (let at = 0; at < numbers.length; ) {
    const [begin, work, count] = numbers.subarray(at, at + 3);
    if (at + 3 + count > numbers.length) throw new Error('the log of regions ends within a region');
    regions.push({ begin, work, chunks: Array.from(numbers.subarray(at + 3, at + 3 + count)) });
    at += 3 + count;
  }
  return regions;
}

/**
 * When the last of `threads` threads is done: each takes the chunks of its own range from the front, then those that others have
 * left, from the end.
 * @param {readonly number[]} chunks @param {number} threads
 */
function longestOf(chunks, threads) {
  const ranges = Math.min(threads, chunks.length);
  const first = Array.from({ length: ranges }, (_, i) => Math.floor((chunks.length * i) / ranges));
  const end = first.map((_, i) => Math.floor((chunks.length * (i + 1)) / ranges));
  const times = new Array(ranges).fill(0);
  for (let left = chunks.length; left > 0; left--) {
    const thread = times.indexOf(Math.min(...times));
    times[thread] += chunks[takeChunk(first, end, thread)];
  }
  return Math.max(...times);
}

function takeChunk(first, end, thread) {
  if (first[thread] < end[thread]) return first[thread]++;
  for (let i = 1; ; i++) {
    const other = (thread + i) % first.length;
    if (first[other] < end[other]) return --end[other];
  }
}

/**
 * @param {Step} step @param {readonly Region[]} regions all of a run @param {number} threads
 * @returns {Path}
 */
function pathOf(step, regions, threads) {
  const path = { regions: 0, outside: step.end - step.begin, handOver: 0, longest: 0, total: 0 };
  for (const { begin, work, chunks } of regions) {
    if (begin < step.begin || begin >= step.end || work < LEAST_SHARED_NS) continue;
    path.regions++;
    path.outside -= chunks.reduce((sum, ns) => sum + ns, 0);
    path.longest += longestOf(chunks, threads);
    if (threads > 1) path.handOver += REGION_NS + THREAD_NS * (Math.min(threads, chunks.length) - 1);
  }
  path.total = path.outside + path.handOver + path.longest;
  return path;
}

module.exports = { longestOf, pathOf, regionsOf };
