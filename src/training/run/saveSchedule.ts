import { setTimeout as sleep } from 'node:timers/promises';
import { SgemoeError } from '../../base/errors';
import type { SavedEvent, SavedPart, SaveFailedEvent } from './events';

/** The steps or minutes between two saves. */
export type SaveInterval = { steps: number } | { minutes: number };

/** Decides when to save: by the interval, or at every evaluation without one. */
export class SaveSchedule {
  readonly #interval: SaveInterval | undefined;
  #triedAt = performance.now();

  constructor(interval: SaveInterval | undefined) {
    this.#interval = interval;
  }

  isDue(stepsDone: number, evaluationDue: boolean): boolean {
    if (this.#interval === undefined) return evaluationDue;
    if ('steps' in this.#interval) return stepsDone % this.#interval.steps === 0;
    return performance.now() - this.#triedAt >= this.#interval.minutes * 60_000;
  }

  /** Restarts the interval after a save, even a failed one, since each try on a full disk first writes what still fits. */
  tried(): void {
    this.#triedAt = performance.now();
  }
}

/** Default pauses in seconds before the last save of a run, which no later save makes up for, is tried again. */
export const RETRY_SECONDS = [1, 5, 15, 30, 60];

/** A save: its part, its step, and the function that writes. */
export interface Save {
  part: SavedPart;
  step: number;
  write: () => Promise<void>;
}

type SaveEvents<T> = AsyncGenerator<SavedEvent | SaveFailedEvent, T, void>;

/** Saves, and lets training go on when the disk refuses: the training in memory is worth more than a save. */
export class Saver {
  constructor(private readonly retrySeconds: readonly number[] = RETRY_SECONDS) {}

  /** Tries a save and returns whether it succeeded. @throws every error that isn't a failure of the disk. */
  async *attempt(save: Save, retrySeconds: number | null = null): SaveEvents<boolean> {
    const { part, step, write } = save;
    try {
      await write();
    } catch (error) {
      if (!isDiskFailure(error)) throw error;
      yield { type: 'saveFailed', step, part, error, retrySeconds };
      return false;
    }
    yield { type: 'saved', step, part };
    return true;
  }

  /** Makes the last save of a run and retries it after each of `retrySeconds`. @throws the last failure. */
  async *insist(save: Save): SaveEvents<void> {
    for (const seconds of this.retrySeconds) {
      if (yield* this.attempt(save, seconds)) return;
      await sleep(1000 * seconds);
    }
    await save.write();
    yield { type: 'saved', step: save.step, part: save.part };
  }
}

function isDiskFailure(error: unknown): error is Error {
  if (error instanceof SgemoeError) return error.code === 'SGEMOE_CHECKPOINT_WRITE';
  return error instanceof Error && 'syscall' in error;
}
