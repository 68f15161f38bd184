'use strict';
/** The program of a thread of workers.js. */
const worker = require('node:worker_threads');
const { gcEntries, watchGc } = require('./gc');
const { allocatedBytes } = require('./memory');
const { WORK, configOf } = require('./models');
const { examine } = require('./numerical');
const { SLOT } = require('./workers');

/** @type {{ control: Int32Array, task: any }} */
const { control, task } = worker.workerData;
const parentPort = /** @type {import('node:worker_threads').MessagePort} */ (worker.parentPort);
const { timeOrigin } = performance;

watchGc();
const subject = WORK[task.work](configOf(task.model), task.batch, task.seq);
subject.run();
parentPort.postMessage('ready');
serveRounds();
report();

function serveRounds() {
  for (let round = 0; ; ) {
    Atomics.wait(control, SLOT.ROUND, round);
    const now = Atomics.load(control, SLOT.ROUND);
    if (now === round) continue;
    round = now;
    if (Atomics.load(control, SLOT.STOP) !== 0) return;
    try {
      subject.run();
    } catch (error) {
      console.error(error);
      Atomics.store(control, SLOT.FAILED, 1);
    }
    if (Atomics.sub(control, SLOT.PENDING, 1) === 1) Atomics.notify(control, SLOT.PENDING);
  }
}

async function report() {
  const collections = await gcEntries(-Infinity, Infinity);
  parentPort.postMessage({
    collections: collections.map(({ start, duration }) => ({ start: timeOrigin + start, duration })),
    numerical: examine(subject.outputs()),
    allocated: await allocatedBytes(subject.run),
  });
}
