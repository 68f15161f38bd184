import { createContext, Script } from 'node:vm';

/** Calls a function from a script, since only scripts have a clock. */
let caller: { script: Script; context: { run: (() => void) | null } } | undefined;

/**
 * Runs a function that doesn't wait for anything, and stops it after `limitMs` milliseconds, an integer >= 1, wherever it is:
 * in a loop, a regular expression or a long copy. What it was writing may be half written. In a browser, which has no such
 * clock, it runs to its end.
 * @throws `late()` when time is up, else what the function throws.
 */
export function withinTime<T>(limitMs: number, run: () => T, late: () => Error): T {
  if (typeof createContext !== 'function') return run();
  caller ??= { script: new Script('run()'), context: createContext({ run: null }) as { run: null } };
  const { script, context } = caller;
  let outcome: { value: T } | { error: unknown } | undefined;
  context.run = () => {
    try {
      outcome = { value: run() };
    } catch (error) {
      outcome = { error };
    }
  };
  try {
    script.runInContext(context, { timeout: limitMs });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw late();
    throw error;
  } finally {
    context.run = null;
  }
  if (outcome !== undefined && 'value' in outcome) return outcome.value;
  throw outcome?.error;
}
