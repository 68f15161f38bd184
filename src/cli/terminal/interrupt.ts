import type { SignalSource } from './io';

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];

/**
 * A package runner such as npm passes on a Ctrl-C that its child also gets from the terminal: a second signal this
 * soon is the echo of the first.
 */
const ECHO_MS = 500;

/**
 * Turns the first SIGINT or SIGTERM into an abort. A later one has its usual effect, the process ends; but no signal is
 * seen while a step computes.
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

/** A command was interrupted before it had anything to show for it. */
export class Interrupted extends Error {
  override message = 'stopped; nothing was written.';
}

/** Runs a job that an interrupt stops. @throws Interrupted when it did. */
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
