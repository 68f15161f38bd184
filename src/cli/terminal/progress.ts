import { formatDuration, formatLoss, formatRate } from './format';
import type { OutStream } from './io';
import { LIVE_SECONDS, LiveLine, PLAIN_SECONDS } from './liveLine';

export interface ProgressStep {
  /** Steps made, skipped ones included. */
  step: number;
  crossEntropy: number;
  tokens: number;
  /** Of the step alone. */
  seconds: number;
  skipped: boolean;
  /** The line of this step comes with its evaluation. */
  evaluationFollows: boolean;
}

export interface ProgressOptions {
  totalSteps: number;
  /** Steps of the run that were made before, by another process. Default 0. */
  doneBefore?: number;
  /** Seconds on some clock; for tests. */
  now?: () => number;
}

/** Share of the newest step in the running means of loss and speed, once 20 steps are made. */
const NEWEST_SHARE = 0.05;

/**
 * Shows how training goes: one line that is drawn again and again on a terminal, now and then a line elsewhere.
 * Loss and speed are running means; the time left counts evaluations in.
 */
export class Progress {
  readonly #out: OutStream;
  readonly #line: LiveLine;
  readonly #totalSteps: number;
  readonly #doneBefore: number;
  readonly #now: () => number;
  readonly #started: number;
  #shownAt = Number.NEGATIVE_INFINITY;
  #loss = Number.NaN;
  #secondsPerToken = Number.NaN;
  #counted = 0;
  #validationLoss: number | undefined;

  constructor(
    out: OutStream,
    { totalSteps, doneBefore = 0, now = () => performance.now() / 1000 }: ProgressOptions,
  ) {
    this.#doneBefore = doneBefore;
    this.#out = out;
    this.#line = new LiveLine(out);
    this.#totalSteps = totalSteps;
    this.#now = now;
    this.#started = now();
  }

  update(step: ProgressStep): void {
    this.#average(step);
    if (step.evaluationFollows) return;
    const now = this.#now();
    const pause = this.#out.isTTY ? LIVE_SECONDS : PLAIN_SECONDS;
    const last = step.step === this.#totalSteps;
    if (!last && now - this.#shownAt < pause) return;
    this.#shownAt = now;
    const line = this.#describe(step.step, now);
    if (this.#out.isTTY) this.#line.draw(line);
    else this.#out.write(`${line}\n`);
  }

  /** After `update`, when the step ended with an evaluation: a line that stays, also on a terminal. */
  evaluated(step: number, validationLoss: number): void {
    this.#validationLoss = validationLoss;
    this.#shownAt = this.#now();
    this.say(this.#describe(step, this.#shownAt));
  }

  /** Writes a line of its own above the live one. */
  say(line: string): void {
    this.#line.say(line);
  }

  /** Replaces the live line by a word on what happens now; elsewhere nothing. */
  status(text: string): void {
    this.#line.draw(text);
  }

  /** Removes the live line. */
  clear(): void {
    this.#line.clear();
  }

  #average({ crossEntropy, tokens, seconds, skipped }: ProgressStep): void {
    if (skipped) return;
    this.#counted++;
    const share = Math.max(NEWEST_SHARE, 1 / this.#counted);
    this.#loss = this.#counted === 1 ? crossEntropy : this.#loss + share * (crossEntropy - this.#loss);
    const pace = seconds / tokens;
    this.#secondsPerToken =
      this.#counted === 1 ? pace : this.#secondsPerToken + share * (pace - this.#secondsPerToken);
  }

  #describe(done: number, now: number): string {
    const total = String(this.#totalSteps);
    const left = ((now - this.#started) / (done - this.#doneBefore)) * (this.#totalSteps - done);
    const parts = [
      `step ${String(done).padStart(total.length)}/${total}`,
      `loss ${formatLoss(this.#loss)}`,
      this.#validationLoss === undefined ? '' : `validation ${formatLoss(this.#validationLoss)}`,
      `${formatRate(1 / this.#secondsPerToken)} tokens/s`,
      `ETA ${formatDuration(left)}`,
    ];
    return parts.filter((part) => part !== '').join('  ');
  }
}
