import type { SignalSource } from './io';

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];

/**
 * A package runner such as npm repeats a Ctrl-C to its child, which also gets it from the terminal. A second signal
 * within this many milliseconds is such an echo.
 */
export const ECHO_MS = 500;

/**
 * Turns the first SIGINT or SIGTERM into an abort. A later one ends the process as usual. A signal waits while a step
 * computes.
 */
export class Interrupt {
  readonly #signals: SignalSource;
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(signals: SignalSource) {
    this.#signals = signals;
    for (const name of SIGNALS) signals.on(name, this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get aborted(): boolean {
    return this.#controller.signal.aborted;
  }

  /** Stops listening. */
  release(): void {
    clearTimeout(this.#timer);
    for (const name of SIGNALS) this.#signals.off(name, this.#onSignal);
  }

  #onSignal = (): void => {
    if (this.aborted) return;
    this.#controller.abort();
    this.#timer = setTimeout(() => this.release(), ECHO_MS);
    this.#timer.unref();
  };
}

/** A command was interrupted before it had a result. */
export class Interrupted extends Error {
  override message = 'stopped; nothing was written.';
}

/** Runs a job that an interrupt stops. @throws Interrupted if an interrupt stopped it. */
export async function interruptible<T>(
  signals: SignalSource,
  job: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const interrupt = new Interrupt(signals);
  try {
    return await job(interrupt.signal);
  } catch (error) {
    throw interrupt.aborted ? new Interrupted() : error;
  } finally {
    interrupt.release();
  }
}
