'use strict';
const path = require('node:path');
const { Worker } = require('node:worker_threads');
const { together } = require('./numerical');

/** Places in the Int32Array through which main thread and workers communicate; see worker.js. */
const SLOT = { ROUND: 0, PENDING: 1, FAILED: 2, STOP: 3 };

const ROUND_LIMIT_MS = 120_000;

/**
 * Worker threads that wait for rounds. In a round each makes one run of its work; the caller's thread sleeps meanwhile.
 * A round costs one wake-up of each worker and one of the caller, no message and no turn of the event loop.
 */
class Workers {
  #control = new Int32Array(new SharedArrayBuffer(Object.keys(SLOT).length * 4));
  #threads = [];
  /** From the first thread's creation until all had loaded the library, built their model and run once. */
  startupNs = 0;

  /**
   * @param {number} count
   * @param {object} task what worker.js makes its work from
   */
  static async start(count, task) {
    const workers = new Workers();
    const before = process.hrtime.bigint();
    const workerData = { control: workers.#control, task };
    for (let i = 0; i < count; i++) {
      workers.#threads.push(new Worker(path.join(__dirname, 'worker.js'), { workerData }));
    }
    await Promise.all(workers.#threads.map(nextMessage));
    workers.startupNs = Number(process.hrtime.bigint() - before);
    return workers;
  }

  /** Makes one run in every worker. */
  round() {
    const control = this.#control;
    Atomics.store(control, SLOT.PENDING, this.#threads.length);
    Atomics.add(control, SLOT.ROUND, 1);
    Atomics.notify(control, SLOT.ROUND);
    for (let left = this.#threads.length; left > 0; left = Atomics.load(control, SLOT.PENDING)) {
      if (Atomics.wait(control, SLOT.PENDING, left, ROUND_LIMIT_MS) === 'timed-out') {
        throw new Error(`a worker did not finish its run in ${ROUND_LIMIT_MS / 1000} s`);
      }
    }
    if (Atomics.load(control, SLOT.FAILED) !== 0) throw new Error('a run failed in a worker, see above');
  }

  /**
   * Ends the workers and returns what they found.
   * @param {number} from
   * @param {number} to Unix times in ms
   * @returns {Promise<import('./measure').Findings>}
   */
  async finish(from, to) {
    const replies = Promise.all(this.#threads.map(nextMessage));
    this.#stop();
    const findings = await replies;
    const sum = (part) => findings.reduce((total, { allocated }) => total + allocated[part], 0);
    return {
      collections: findings
        .flatMap(({ collections }) => collections)
        .filter(({ start }) => start >= from && start <= to),
      numerical: together(findings.map(({ numerical }) => numerical)),
      // Allocations of native code can't be told apart by thread.
      allocated: { heap: sum('heap'), external: sum('external'), native: null },
    };
  }

  async close() {
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }

  #stop() {
    Atomics.store(this.#control, SLOT.STOP, 1);
    Atomics.add(this.#control, SLOT.ROUND, 1);
    Atomics.notify(this.#control, SLOT.ROUND);
  }
}

/** @param {Worker} thread */
function nextMessage(thread) {
  return new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
    thread.once('exit', (code) => reject(new Error(`a worker ended early, with exit code ${code}`)));
  });
}

module.exports = { SLOT, Workers };
