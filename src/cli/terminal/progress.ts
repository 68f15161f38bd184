import { formatDuration, formatLoss, formatPercent, formatRate } from './format';
import type { OutStream } from './io';
import { LIVE_SECONDS, LiveLine, PLAIN_SECONDS } from './liveLine';

export interface ProgressStep {
  /** Steps made, skipped ones included. */
  step: number;
  crossEntropy: number;
  /** Of preference pairs. */
  preferences?: { loss: number; accuracy: number } | undefined;
  tokens: number;
  /** Seconds that the step took. */
  seconds: number;
  skipped: boolean;
  /** Whether an evaluation follows, whose line includes this step. */
  evaluationFollows: boolean;
}

export interface ProgressOptions {
  totalSteps: number;
  /** Steps that earlier processes made. Default 0. */
  doneBefore?: number;
  /** Seconds on some clock; for tests. */
  now?: () => number;
}

/** Share of the newest step in the running means of loss and speed, once 20 steps are made. */
const NEWEST_SHARE = 0.05;

/**
 * Shows the progress of a training: one live line on a terminal, elsewhere a line now and then. Loss and speed are
 * running means; the remaining time includes evaluations.
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
  /** Share of pairs whose chosen answer is preferred; NaN without pairs. */
  #accuracy = Number.NaN;
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

  /** Writes a permanent line for a step with an evaluation; call it after `update`. */
  evaluated(step: number, validationLoss: number): void {
    this.#validationLoss = validationLoss;
    this.#shownAt = this.#now();
    this.say(this.#describe(step, this.#shownAt));
  }

  /** Writes a permanent line above the live one. */
  say(line: string): void {
    this.#line.say(line);
  }

  /** Replaces the live line by a status; outputs other than terminals get nothing. */
  status(text: string): void {
    this.#line.draw(text);
  }

  /** Removes the live line. */
  clear(): void {
    this.#line.clear();
  }

  #average({ crossEntropy, preferences, tokens, seconds, skipped }: ProgressStep): void {
    if (skipped) return;
    this.#counted++;
    const share = Math.max(NEWEST_SHARE, 1 / this.#counted);
    const mean = (old: number, newest: number) =>
      this.#counted === 1 ? newest : old + share * (newest - old);
    this.#loss = mean(this.#loss, preferences?.loss ?? crossEntropy);
    this.#accuracy = mean(this.#accuracy, preferences?.accuracy ?? Number.NaN);
    this.#secondsPerToken = mean(this.#secondsPerToken, seconds / tokens);
  }

  #describe(done: number, now: number): string {
    const total = String(this.#totalSteps);
    const left = ((now - this.#started) / (done - this.#doneBefore)) * (this.#totalSteps - done);
    const parts = [
      `step ${String(done).padStart(total.length)}/${total}`,
      `loss ${formatLoss(this.#loss)}`,
      Number.isNaN(this.#accuracy) ? '' : `${formatPercent(this.#accuracy)} preferred`,
      this.#validationLoss === undefined ? '' : `validation ${formatLoss(this.#validationLoss)}`,
      `${formatRate(1 / this.#secondsPerToken)} tokens/s`,
      `ETA ${formatDuration(left)}`,
    ];
    return parts.filter((part) => part !== '').join('  ');
  }
}
