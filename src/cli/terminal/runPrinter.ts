import type { RunEvent, SaveFailedEvent, StarvingExpertEvent } from '../../training/run/events';
import type { OutStream } from './io';
import { Progress } from './progress';

export interface RunPrinterOptions {
  totalSteps: number;
  /** The lines at the head of the run. */
  head: string;
}

/** Shows the events of a training run, live on a terminal, elsewhere as lines. */
export class RunPrinter {
  readonly #out: OutStream;
  readonly #options: RunPrinterOptions;
  #progress: Progress;

  constructor(out: OutStream, options: RunPrinterOptions) {
    this.#out = out;
    this.#options = options;
    this.#progress = new Progress(out, options);
  }

  show(event: RunEvent): void {
    const progress = this.#progress;
    switch (event.type) {
      case 'start':
        this.#out.write(`${this.#options.head}\n\n`);
        this.#progress = new Progress(this.#out, { ...this.#options, doneBefore: event.stepsMade });
        break;
      case 'note':
        progress.say(event.text);
        break;
      case 'step':
        if (event.skippedInARow === 1) {
          progress.say(`step ${event.step}: loss or gradient not finite, weights left as they were`);
        }
        progress.update(event);
        break;
      case 'evaluation':
        progress.evaluated(event.step, event.loss);
        break;
      case 'starvingExpert':
        progress.say(starving(event));
        break;
      case 'saveFailed':
        progress.say(notSaved(event));
        break;
      case 'finalEvaluation':
        progress.status('evaluating the whole validation split ...');
        break;
      case 'end':
        progress.clear();
    }
  }

  /** Removes the live line. */
  clear(): void {
    this.#progress.clear();
  }
}

function starving({ step, layer, expert, share, evenShare, windowSteps }: StarvingExpertEvent): string {
  return (
    `step ${step}: expert ${expert} of layer ${layer} starves: ${(100 * share).toFixed(2)} % of the tokens over ` +
    `${windowSteps} steps, an even share would be ${(100 * evenShare).toFixed(1)} %; a larger --aux-loss or ` +
    '--router-bias-update-rate evens the load (reported once)'
  );
}

function notSaved({ error, retrySeconds }: SaveFailedEvent): string {
  const next =
    retrySeconds === null
      ? 'Training goes on; the next save tries again.'
      : `Trying again in ${retrySeconds} s.`;
  return `NOT SAVED: ${error.message} ${next}`;
}
