import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidArgumentError } from 'commander';
import { SgemoeError } from '../../base/errors';
import { integer } from '../../cli/options/values';

/** Between two saves. */
export type SaveInterval = { steps: number } | { minutes: number };

/** Parses '500' as steps, '10m' as minutes. */
export function saveInterval(text: string): SaveInterval {
  const minutes = /^(\d+(?:\.\d+)?)m$/.exec(text);
  if (minutes === null) {
    try {
      return { steps: integer(1)(text) };
    } catch {
      throw new InvalidArgumentError("It must be steps, an integer >= 1, or minutes, such as '10m'.");
    }
  }
  if (Number(minutes[1]) > 0) return { minutes: Number(minutes[1]) };
  throw new InvalidArgumentError('It must be more than 0 minutes.');
}

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

/**
 * Saves, and lets training go on when that fails: what is in memory is worth more than a disk that is full for a while.
 */
export class Saver {
  constructor(
    private readonly say: (line: string) => void,
    private readonly retrySeconds: readonly number[] = RETRY_SECONDS,
  ) {}

  /** @returns whether it is saved; if not, it has been told why. @throws what isn't a failure of the disk. */
  async attempt(
    save: () => Promise<void>,
    next = 'Training goes on; the next save tries again.',
  ): Promise<boolean> {
    try {
      await save();
      return true;
    } catch (error) {
      if (!isDiskFailure(error)) throw error;
      this.say(`NOT SAVED: ${(error as Error).message} ${next}`);
      return false;
    }
  }

  /** The last save of a run, tried again for some time. @throws the last failure. */
  async insist(save: () => Promise<void>): Promise<void> {
    for (const seconds of this.retrySeconds) {
      if (await this.attempt(save, `Trying again in ${seconds} s.`)) return;
      await sleep(1000 * seconds);
    }
    await save();
  }
}

function isDiskFailure(error: unknown): boolean {
  if (error instanceof SgemoeError) return error.code === 'SGEMOE_CHECKPOINT_WRITE';
  return error instanceof Error && 'syscall' in error;
}
