import { readFileSync } from 'node:fs';
import { createContext, Script } from 'node:vm';

/** Calls a function from a script, since only scripts have a clock. */
let caller: { script: Script; context: { run: (() => void) | null } } | undefined;

/** How many times the limit may pass for a thread that the system lets run only now and then. */
const MOST_SLOWER = 4;

/**
 * Runs a function that doesn't wait for anything, and stops it after `limitMs` milliseconds, an integer in [1, 2^31), wherever
 * it is: in a loop, a regular expression or a long copy. What it was writing may be half written, so it must not load modules.
 * Where the thread had less than half of the time on a processor, which Linux tells, the function runs once more with four times
 * the limit: others' load isn't its fault. In a browser, which has no such clock, it runs to its end.
 * @throws `late()` when time is up, else what the function throws.
 */
export function withinTime<T>(limitMs: number, run: () => T, late: () => Error): T {
  if (typeof createContext !== 'function') return run();
  const began = processorMs();
  const first = runOnce(limitMs, run);
  if (first !== null) return resultOf(first);
  if (!(processorMs() - began < limitMs / 2)) throw late();
  const second = runOnce(Math.min(MOST_SLOWER * limitMs, 2 ** 31 - 1), run);
  if (second === null) throw late();
  return resultOf(second);
}

type Outcome<T> = { value: T } | { error: unknown };

function resultOf<T>(outcome: Outcome<T>): T {
  if ('error' in outcome) throw outcome.error;
  return outcome.value;
}

/** What the function returned or threw; null when time was up. */
function runOnce<T>(wallMs: number, run: () => T): Outcome<T> | null {
  caller ??= { script: new Script('run()'), context: createContext({ run: null }) as { run: null } };
  const { script, context } = caller;
  let outcome: Outcome<T> | null = null;
  context.run = () => {
    try {
      outcome = { value: run() };
    } catch (error) {
      outcome = { error };
    }
  };
  try {
    script.runInContext(context, { timeout: wallMs });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    return null;
  } finally {
    context.run = null;
  }
  return outcome;
}

/** Milliseconds that this thread has had on a processor; NaN where the system doesn't tell. */
function processorMs(): number {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ', 1)[0]) / 1e6;
  } catch {
    return Number.NaN;
  }
}
