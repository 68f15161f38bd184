import { setImmediate } from 'node:timers/promises';

/** Work between two turns of the event loop. */
const TURN_MS = 50;

/** Awaits a turn of the event loop when one is due, and says whether it was; throws when `signal` is aborted. */
export function turns(signal: AbortSignal | undefined): () => Promise<boolean> {
  signal?.throwIfAborted();
  let last = performance.now();
  return async () => {
    if (performance.now() - last < TURN_MS) return false;
    await setImmediate();
    signal?.throwIfAborted();
    last = performance.now();
    return true;
  };
}
