import type { Histogram, Usage } from './types';

/** Bucket bounds in seconds, in steps of about sqrt(10), from a tiny model's first token to a long completion. */
const BOUNDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, Number.POSITIVE_INFINITY];

export class DurationHistogram {
  readonly #counts = BOUNDS.map(() => 0);
  #sum = 0;

  observe(milliseconds: number): void {
    const seconds = milliseconds / 1000;
    this.#counts[BOUNDS.findIndex((bound) => seconds <= bound)]++;
    this.#sum += seconds;
  }

  read(): Histogram {
    const counts = [...this.#counts];
    return { bounds: [...BOUNDS], counts, count: counts.reduce((sum, n) => sum + n, 0), sum: this.#sum };
  }
}

const WINDOW_SECONDS = 10;

/** Events per second over the last 10 seconds, from a ring of counts by second. */
export class RecentRate {
  readonly #counts = new Float64Array(WINDOW_SECONDS);
  readonly #started: number;
  #second: number;

  constructor(private readonly now: () => number = () => performance.now() / 1000) {
    this.#started = now();
    this.#second = Math.floor(this.#started);
  }

  add(count: number): void {
    this.#advance();
    this.#counts[this.#second % WINDOW_SECONDS] += count;
  }

  /** The rate; the current second counts by its elapsed part. */
  read(): number {
    this.#advance();
    const now = this.now();
    const whole = WINDOW_SECONDS - 1 + (now - this.#second);
    const seconds = Math.min(whole, now - this.#started);
    return seconds > 0 ? this.#counts.reduce((sum, n) => sum + n, 0) / seconds : 0;
  }

  #advance(): void {
    const second = Math.floor(this.now());
    const passed = Math.min(second - this.#second, WINDOW_SECONDS);
    for (let i = 1; i <= passed; i++) this.#counts[(this.#second + i) % WINDOW_SECONDS] = 0;
    if (second > this.#second) this.#second = second;
  }
}

/** Why a request ended: 'completed' by itself, 'failed' by an error, 'aborted' because nobody wants it any more. */
export type Outcome = 'completed' | 'failed' | 'aborted';

/** The counters of the engine's thread. */
export class EngineCounters {
  readonly requests = { accepted: 0, completed: 0, failed: 0, aborted: 0, refused: 0 };
  readonly usage: Usage = { promptTokens: 0, reusedTokens: 0, completionTokens: 0 };
  readonly tokens = new RecentRate();
  readonly firstToken = new DurationHistogram();
  readonly duration = new DurationHistogram();

  /** Adds the usage of a chunk. @param before usage before the chunk, null for the first; @param after usage after it. */
  addUsage(before: Usage | null, after: Usage): void {
    const { usage } = this;
    if (before === null) {
      usage.promptTokens += after.promptTokens;
      usage.reusedTokens += after.reusedTokens;
    }
    const made = after.completionTokens - (before?.completionTokens ?? 0);
    usage.completionTokens += made;
    this.tokens.add(made);
  }
}
