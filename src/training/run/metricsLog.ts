import { JsonLines, keepLines } from '../../checkpoint/jsonLines';
import type { StepResult, TrainerState } from '../trainer';
import type { ChartData } from './chart';
import { type RouterHealth, routerHealth } from './routerHealth';
import { BinnedSeries } from './series';

/** One line of metrics.jsonl. Numbers that aren't finite are null, as JSON has none. */
export interface StepMetrics extends StepResult {
  /** Of this step alone, without evaluation. */
  tokensPerSec: number;
  /** Nats per token; only on steps that ended with an evaluation. */
  validationLoss?: number;
  /** Of the same evaluation. */
  validationBitsPerByte?: number;
}

const LOSS_BINS = 400;
const LOAD_BINS = 100;

/** Appends a line of JSON for each step to a file, and keeps what the chart shows. */
export class MetricsLog {
  readonly #lines: JsonLines;
  readonly #train = new BinnedSeries(LOSS_BINS);
  readonly #load = new BinnedSeries(LOAD_BINS);
  readonly #validation: { step: number; loss: number }[] = [];
  #expertsPerLayer: number[] = [];

  /** @throws Error of the system when the file can't be opened. */
  constructor(path: string) {
    this.#lines = new JsonLines(path);
  }

  /**
   * The log of a run that goes on at a checkpoint: lines of steps after it, and a line that was cut off, are removed.
   */
  static async continue(path: string, at: TrainerState): Promise<MetricsLog> {
    const log = new MetricsLog(path);
    await keepLines(path, log.#replay(at));
    return log;
  }

  append(metrics: StepMetrics): void {
    const { step, loss, crossEntropy, auxLoss, zLoss, lr, gradNorm, tokens, tokensPerSec } = metrics;
    const { validationLoss, validationBitsPerByte, expertLoad, skipped } = metrics;
    const line = {
      ...{ step, loss, crossEntropy, auxLoss, zLoss, lr, gradNorm, tokens },
      tokensPerSec: Math.round(tokensPerSec * 10) / 10,
      validationLoss,
      validationBitsPerByte,
      expertLoad: expertLoad.map((layer) => layer.map((share) => Math.round(share * 1e4) / 1e4)),
      router: rounded(routerHealth(expertLoad)),
      skipped,
    };
    this.#lines.append(line);
    this.#record(metrics);
  }

  /** Makes the lines survive a power cut, as far as the disk takes them. */
  flush(): void {
    this.#lines.flush();
  }

  #record({ step, crossEntropy, expertLoad, validationLoss, skipped }: StepMetrics): void {
    if (skipped) return;
    this.#train.add(step, [crossEntropy]);
    this.#load.add(step, expertLoad.flat());
    this.#expertsPerLayer = expertLoad.map((layer) => layer.length);
    if (Number.isFinite(validationLoss)) this.#validation.push({ step, loss: validationLoss! });
  }

  /** Records the lines up to a checkpoint and keeps these. */
  #replay(at: TrainerState): (value: unknown) => boolean {
    let skippedSteps = 0;
    return (value) => {
      if (!isStep(value)) return false;
      if (value.skipped) skippedSteps++;
      // A skipped step has the number of the next one, so the count tells whether it was before the checkpoint.
      const after = value.skipped ? skippedSteps > at.skippedSteps : value.step > at.step;
      if (!after) this.#record(value);
      return !after;
    };
  }

  chartData(): Pick<ChartData, 'train' | 'validation' | 'load' | 'expertsPerLayer'> {
    return {
      train: this.#train.bins,
      validation: this.#validation,
      load: this.#load.bins,
      expertsPerLayer: this.#expertsPerLayer,
    };
  }

  close(): void {
    this.#lines.close();
  }
}

function rounded({ loadEntropy, maxOverMean, deadExperts }: RouterHealth): RouterHealth {
  const round = (value: number) => Math.round(value * 1e4) / 1e4;
  return { loadEntropy: loadEntropy.map(round), maxOverMean: maxOverMean.map(round), deadExperts };
}

function isStep(value: unknown): value is StepMetrics {
  const { step, expertLoad } = (value ?? {}) as Partial<StepMetrics>;
  return typeof step === 'number' && Array.isArray(expertLoad);
}
