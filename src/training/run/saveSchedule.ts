import { setTimeout as sleep } from 'node:timers/promises';
import { SgemoeError } from '../../base/errors';
import type { SavedEvent, SavedPart, SaveFailedEvent } from './events';

/** Between two saves. */
export type SaveInterval = { steps: number } | { minutes: number };

/** When to save. Without an interval: whenever there is an evaluation. */
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

  /** After a save, also one that failed: on a full disk each try takes as long as the weights that still fit. */
  tried(): void {
    this.#triedAt = performance.now();
  }
}

/** After the last save failed there is no next one to wait for: it is tried again after these. */
const RETRY_SECONDS = [1, 5, 15, 30, 60];

/** What is saved, after which step, and how. */
export interface Save {
  part: SavedPart;
  step: number;
  write: () => Promise<void>;
}

type SaveEvents<T> = AsyncGenerator<SavedEvent | SaveFailedEvent, T, void>;

/** Saves, and lets training go on when the disk refuses: what is in memory is worth more than a full disk. */
export class Saver {
  constructor(private readonly retrySeconds: readonly number[] = RETRY_SECONDS) {}

  /** Returns whether it is saved. @throws what isn't a failure of the disk. */
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

  /** The last save of a run, tried again for some time. @throws the last failure. */
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
