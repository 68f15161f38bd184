import type { OutStream } from './io';

/** A line on a terminal that is drawn over and over; other outputs only get whole lines. */
export class LiveLine {
  readonly #out: OutStream;
  #drawn = false;

  constructor(out: OutStream) {
    this.#out = out;
  }

  /** Writes a permanent line above the live one. */
  say(line: string): void {
    this.clear();
    this.#out.write(`${line}\n`);
  }

  /** Replaces the live line; outputs other than terminals get nothing. */
  draw(line: string): void {
    if (!this.#out.isTTY) return;
    // Some terminals report 0 for an unknown width.
    const columns = this.#out.columns || 80;
    this.#out.write(`\r\x1b[K${line.slice(0, columns - 1)}`);
    this.#drawn = true;
  }

  /** Removes the live line. */
  clear(): void {
    if (this.#drawn) this.#out.write('\r\x1b[K');
    this.#drawn = false;
  }
}

/** Seconds between two drawings on a terminal, and between two lines elsewhere. */
export const LIVE_SECONDS = 0.1;
export const PLAIN_SECONDS = 10;

/** Shows the progress of a job without steps: live on a terminal, elsewhere as a line now and then. */
export class JobProgress {
  readonly #out: OutStream;
  readonly #line: LiveLine;
  readonly #now: () => number;
  #shownAt: number;

  /** @param now seconds on some clock; for tests. */
  constructor(out: OutStream, now = () => performance.now() / 1000) {
    this.#out = out;
    this.#line = new LiveLine(out);
    this.#now = now;
    this.#shownAt = now();
  }

  update(describe: () => string): void {
    const pause = this.#out.isTTY ? LIVE_SECONDS : PLAIN_SECONDS;
    if (this.#now() - this.#shownAt < pause) return;
    this.#shownAt = this.#now();
    if (this.#out.isTTY) this.#line.draw(describe());
    else this.#line.say(describe());
  }

  clear(): void {
    this.#line.clear();
  }
}
