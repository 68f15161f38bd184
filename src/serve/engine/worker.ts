/**
 * The program of an engine's threads. Those that decode have a scheduler, which gets messages and answers at most once a step;
 * those for texts answer one task after the other.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { createKernels } from '../../backend';
import { takeOver } from '../../backend/collectives/takeOver';
import { MoETransformer } from '../../model/model';
import { loadTokenizer } from '../../text/loadTokenizer';
import { WorkerCounters } from './counters';
import {
  type AdapterMessage,
  type EndMessage,
  type FromWorker,
  type TextSetup,
  type ToWorker,
  toWire,
  type WorkerSetup,
} from './messages';
import { Scheduler } from './scheduler';
import { runTextThread } from './textProgram';

/** Milliseconds that text may wait for more, so that small models don't flood the engine's thread with messages. */
const GATHER_MS = 2;

function runScheduler(port: NonNullable<typeof parentPort>, setup: WorkerSetup): void {
  const kernels = createKernels(setup.backend, setup.addonPath ?? undefined);
  const { experts } = setup;
  const expertRanks = experts
    ? { collectives: takeOver(experts.rank), counts: experts.counts, groupSize: experts.groupSize }
    : undefined;
  const model = MoETransformer.fromShared(setup.model, { kernels, expertRanks });
  const exchange = model.expertExchange;
  const tokenizer = setup.tokenizer && loadTokenizer(setup.tokenizer.tokenizer, setup.tokenizer);
  const counters = new WorkerCounters(model.config, setup.counters);
  const scheduler = new Scheduler(model, tokenizer, setup, counters);
  for (const adapter of setup.adapters) scheduler.changeAdapters({ addAdapter: adapter });
  const post = (message: FromWorker) => port.postMessage(message);
  let isScheduled = false;
  let isOver = false;
  let posted = 0;

  const lose = (error: unknown) => {
    if (exchange === null) throw error;
    isOver = true;
    stopWaiting();
    post({ ready: false, lost: toWire(error) });
  };
  const stopWaiting = exchange?.keepWaiting(lose) ?? (() => {});

  const schedule = () => {
    if (isScheduled || isOver) return;
    isScheduled = true;
    setImmediate(turn);
  };
  // Each step takes a turn of the event loop, so that messages arrive between two steps.
  const turn = () => {
    isScheduled = false;
    if (isOver) return;
    try {
      scheduler.step();
    } catch (error) {
      return lose(error);
    }
    const now = performance.now();
    if (scheduler.urgent || !scheduler.active || now - posted >= GATHER_MS) {
      const events = scheduler.takeEvents();
      if (events.length > 0) post({ ready: false, events });
      posted = now;
    }
    if (scheduler.active) schedule();
  };
  const end = () => {
    // Lost ranks need not be let go, and the engine has been told.
    if (!isOver) {
      try {
        exchange?.end();
      } catch {}
    }
    isOver = true;
    stopWaiting();
    port.close();
  };
  port.on('message', (message: ToWorker | AdapterMessage | EndMessage) => {
    if ('end' in message) return end();
    if (!('work' in message)) {
      scheduler.changeAdapters(message);
      return;
    }
    scheduler.receive(message);
    schedule();
  });
  post({ ready: true });
}

if (parentPort !== null) {
  const setup = workerData as WorkerSetup | TextSetup;
  if (setup.role === 'decode') runScheduler(parentPort, setup);
  else runTextThread(parentPort, setup);
}
