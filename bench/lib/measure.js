'use strict';
const { gcEntries, watchGc } = require('./gc');
const { allocatedBytes } = require('./memory');
const { examine } = require('./numerical');
const { median, summarise } = require('./stats');

/**
 * A scenario, ready to run.
 * @typedef {object} Case
 * @property {() => void} run one unit of work, synchronous; a trial is `innerIterations` of them
 * @property {() => Iterable<ArrayLike<number>>} [outputs] what the last run computed, looked through for NaN and Inf
 * @property {() => void} [baseline] work that is timed beside `run`, trial by trial (the overhead axis)
 * @property {() => number} [cpuNs] CPU time of the last run, where this process can't see it
 * @property {() => number} [peakRss] highest resident memory of the runs, where it isn't this process's
 * @property {(from: number, to: number) => Promise<Findings>} [findings] instead of looking into this thread: what the
 *   worker threads found, with the garbage collections in [from, to], Unix time in ms
 * @property {(result: any) => Record<string, unknown>} [derive] more for the result's `derived`
 * @property {Record<string, unknown>} [extra] more for the result itself
 * @property {() => unknown} [close]
 */

/**
 * @typedef {object} Findings
 * @property {{ duration: number }[]} collections durations in ms
 * @property {{ nan_count: number, inf_count: number, max_abs: number }} numerical
 * @property {{ heap: number, external: number, native: number | null }} allocated bytes of a run
 */

/**
 * @typedef {object} Scenario
 * @property {string} id
 * @property {Record<string, unknown>} params
 * @property {number | null} tokens tokens of a run; null where there are none
 * @property {() => Case | Promise<Case>} prepare
 * @property {number} [innerIterations] runs a trial, for work too short to be timed alone. Default 1
 * @property {number} [knownFlops] arithmetic of a run
 * @property {boolean} [gflops] whether known_flops over time says something
 * @property {string} [parallelSemantics]
 * @property {number} [threads] concurrent JavaScript threads in a run. Default 1
 * @property {number} [mostTrials] for runs of seconds: at most so many trials, after one warmup
 * @property {number} [needsBytes] left out where less memory is free
 */

/** @typedef {{ trials: number, warmup: number }} Runs */

/**
 * Warms a scenario up and times it.
 * @param {Scenario} scenario
 * @param {Runs} wanted
 */
async function measure(scenario, wanted) {
  const { trials, warmup } = runsOf(scenario, wanted);
  watchGc();
  const subject = await scenario.prepare();
  try {
    const warm = timeTrials(subject, scenario, warmup);
    const from = performance.now();
    const timed = timeTrials(subject, scenario, trials);
    const to = performance.now();
    const singles = scenario.innerIterations ? timeTrials(subject, { innerIterations: 1 }, trials) : null;
    const found = await findingsOf(subject, scenario, from, to);
    const result = assemble(scenario, { warm, timed, singles, found, elapsedMs: to - from });
    Object.assign(result, subject.extra);
    Object.assign(result.derived, subject.derive?.(result));
    return result;
  } finally {
    await subject.close?.();
  }
}

/**
 * Runs a scenario exactly as often as `measure` does, for a look at the memory afterwards; returns its peak in bytes.
 * @param {Scenario} scenario
 * @param {Runs} wanted
 * @param {() => number} peakRss
 */
async function runForMemory(scenario, wanted, peakRss) {
  const { trials, warmup } = runsOf(scenario, wanted);
  const subject = await scenario.prepare();
  try {
    timeTrials(subject, scenario, warmup + trials);
    return subject.peakRss?.() ?? peakRss();
  } finally {
    await subject.close?.();
  }
}

/**
 * @param {Scenario} scenario
 * @param {Runs} wanted
 */
function runsOf({ mostTrials }, { trials, warmup }) {
  if (mostTrials === undefined) return { trials, warmup };
  return { trials: Math.min(trials, mostTrials), warmup: Math.min(warmup, 1) };
}

/**
 * @param {Case} subject
 * @param {Pick<Scenario, 'innerIterations'>} scenario
 * @param {number} count
 */
function timeTrials(subject, { innerIterations = 1 }, count) {
  const { run, baseline, cpuNs } = subject;
  /** @type {{ wall: number[], cpu: number[], baseline: number[] }} */
  const timings = { wall: [], cpu: [], baseline: [] };
  for (let trial = 0; trial < count; trial++) {
    // With a baseline, untimed runs before each timed one leave the caches as runs of its own kind do.
    if (baseline) settle(run);
    const { wall, cpu } = timeOne(run, innerIterations);
    timings.wall.push(wall);
    timings.cpu.push(cpuNs?.() ?? cpu);
    if (!baseline) continue;
    settle(baseline);
    timings.baseline.push(timeOne(baseline, innerIterations).wall);
  }
  return timings;
}

const SETTLING_RUNS = 3;

function settle(run) {
  for (let i = 0; i < SETTLING_RUNS; i++) run();
}

/** Nanoseconds of wall and CPU time of a run; the CPU time is that of all threads of the process. */
function timeOne(run, iterations) {
  const cpuBefore = process.resourceUsage();
  const before = process.hrtime.bigint();
  for (let i = 0; i < iterations; i++) run();
  const after = process.hrtime.bigint();
  const cpuAfter = process.resourceUsage();
  const cpuMicroseconds =
    cpuAfter.userCPUTime - cpuBefore.userCPUTime + cpuAfter.systemCPUTime - cpuBefore.systemCPUTime;
  return {
    wall: Math.round(Number(after - before) / iterations),
    cpu: Math.round((cpuMicroseconds * 1000) / iterations),
  };
}

/**
 * @param {Case} subject
 * @param {Scenario} scenario
 * @param {number} from
 * @param {number} to
 * @returns {Promise<Findings>}
 */
async function findingsOf(subject, scenario, from, to) {
  if (subject.findings) {
    const { timeOrigin } = performance;
    return subject.findings(timeOrigin + from, timeOrigin + to);
  }
  const collections = await gcEntries(from, to);
  const numerical = examine(subject.outputs?.() ?? []);
  const allocated = await allocatedBytes(subject.run, scenario.mostTrials !== undefined);
  return { collections, numerical, allocated };
}

/** The scenario's part of the output; every key is there in every scenario, null where it has no meaning. */
function assemble(scenario, { warm, timed, singles, found, elapsedMs }) {
  const { innerIterations = 1, knownFlops = null, tokens, threads = 1 } = scenario;
  const { median: medianNs, min, max, p95, q1, q3 } = summarise(timed.wall);
  const seconds = medianNs / 1e9;
  const { heap, external, native } = found.allocated;
  const allocBytes = heap + external + (native ?? 0);
  const gcMs = found.collections.reduce((sum, { duration }) => sum + duration, 0);
  const baseline = timed.baseline.length > 0 ? { baseline_timings_ns: timed.baseline } : {};
  return {
    id: scenario.id,
    params: scenario.params,
    warmup_runs: warm.wall.length,
    trial_runs: timed.wall.length,
    inner_iterations: innerIterations,
    timings_ns: timed.wall,
    cpu_times_ns: timed.cpu,
    warmup_timings_ns: warm.wall,
    ...baseline,
    median_ns: medianNs,
    p95_ns: p95,
    min_ns: min,
    max_ns: max,
    iqr_ns: q3 - q1,
    cpu_median_ns: median(timed.cpu),
    single_call_median_ns: singles ? median(singles.wall) : medianNs,
    throughput_tokens_per_sec: tokens === null ? null : tokens / seconds,
    memory: {
      peak_rss_bytes: 0, // run.js measures it in a separate process and fills it in
      alloc_bytes: allocBytes,
      alloc_heap_bytes: heap,
      alloc_external_bytes: external,
      alloc_native_bytes: native,
    },
    gc: { total_gc_time_ns: Math.round(gcMs * 1e6), gc_pause_count: found.collections.length },
    numerical: found.numerical,
    derived: {
      alloc_rate_bytes_per_sec: allocBytes / seconds,
      gc_throughput: Math.max(0, 1 - gcMs / (elapsedMs * threads)),
      gflops: scenario.gflops && knownFlops !== null ? knownFlops / medianNs : null,
    },
    known_flops: knownFlops,
    parallel_semantics: scenario.parallelSemantics ?? null,
  };
}

module.exports = { measure, runForMemory };
