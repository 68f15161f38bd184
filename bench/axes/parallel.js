'use strict';
/** Times independent runs side by side: one in each worker thread, computing on that thread alone. */
const { setThreads } = require('../..');
const { configOf, modelParams } = require('../lib/models');
const { Workers } = require('../lib/workers');

const THREADS = [1, 2, 4];

const SEMANTICS =
  'T worker threads, each with a model of its own, created and warmed once; a trial is T runs, one in each, timed ' +
  'from the dispatch to the end of the last; every worker computes on one thread';

/** @returns {import('../lib/measure').Scenario} */
function parallelScenario(id, threads, task, rate) {
  return {
    id,
    params: { ...modelParams(task.model, configOf(task.model), task.batch, task.seq), thread_count: threads },
    tokens: threads * task.batch * task.seq,
    parallelSemantics: SEMANTICS,
    threads,
    async prepare() {
      // The process has one pool. With one thread in it, a region runs on the worker that starts it.
      setThreads(1);
      const workers = await Workers.start(threads, task);
      return {
        run: () => workers.round(),
        findings: (from, to) => workers.finish(from, to),
        close: () => workers.close(),
        derive: (result) => ({
          [rate]: (threads * 1e9) / result.median_ns,
          pool_startup_ns: workers.startupNs,
        }),
      };
    },
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  ...THREADS.map((threads) =>
    parallelScenario(
      `parallel_T${threads}`,
      threads,
      { work: 'forward', model: 'tiny', batch: 2, seq: 32 },
      'inferences_per_sec',
    ),
  ),
  ...THREADS.map((threads) =>
    parallelScenario(
      `parallel_train_T${threads}`,
      threads,
      { work: 'train', model: 'tiny', batch: 2, seq: 8 },
      'train_steps_per_sec',
    ),
  ),
];

module.exports = { scenarios };
