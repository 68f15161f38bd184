import { JsonLines, keepLines } from '../../checkpoint/jsonLines';
import type { PreferenceMetrics } from '../preferenceLoss';
import type { LossResult } from '../trainer';
import type { ChartData } from './chart';
import { type RouterHealth, routerHealth } from './routerHealth';
import { BinnedSeries } from './series';

/** One line of metrics.jsonl. Numbers that aren't finite are null, as JSON has none. */
export interface StepMetrics extends LossResult {
  /** The run's step, from 1, skipped ones included; no two lines share a number. */
  step: number;
  /** Number of the optimizer's update, from 1; a skipped step keeps it for the next one. */
  update: number;
  /** Learning rate of this step. */
  lr: number;
  /** The loss or the gradient was not finite: weights and optimizer are as before. */
  skipped: boolean;
  /** Speed of this step alone, without evaluation. */
  tokensPerSec: number;
  /** Validation loss in nats per token; only on steps with an evaluation. */
  validationLoss?: number | undefined;
  /** Bits per byte of the same evaluation. */
  validationBitsPerByte?: number | undefined;
  /** Of preference pairs, those of the same evaluation. */
  validationPreferences?: PreferenceMetrics | undefined;
}

const LOSS_BINS = 400;
const LOAD_BINS = 100;

/** Appends a line of JSON for each step to a file, and keeps the data of the chart. */
export class MetricsLog {
  readonly #lines: JsonLines;
  readonly #train = new BinnedSeries(LOSS_BINS);
  readonly #load = new BinnedSeries(LOAD_BINS);
  readonly #validation: { step: number; loss: number }[] = [];
  #expertsPerLayer: number[] = [];

  /** @throws the system's Error when the file can't be opened. */
  constructor(path: string) {
    this.#lines = new JsonLines(path);
  }

  /**
   * The log of a run that resumes after `stepsDone` steps. It removes the lines of later steps and a line that was cut off.
   */
  static async continue(path: string, stepsDone: number): Promise<MetricsLog> {
    const log = new MetricsLog(path);
    await keepLines(path, log.#replay(stepsDone));
    return log;
  }

  append(metrics: StepMetrics): void {
    const { step, update, loss, crossEntropy, auxLoss, zLoss, lr, gradNorm, tokens, tokensPerSec } = metrics;
    const { validationLoss, validationBitsPerByte, expertLoad, skipped } = metrics;
    const { preferences, validationPreferences } = metrics;
    const line = {
      step,
      update,
      loss,
      crossEntropy,
      auxLoss,
      zLoss,
      lr,
      gradNorm,
      tokens,
      tokensPerSec: Math.round(tokensPerSec * 10) / 10,
      validationLoss,
      validationBitsPerByte,
      preferences,
      validationPreferences,
      expertLoad: expertLoad.map((layer) => layer.map((share) => Math.round(share * 1e4) / 1e4)),
      router: rounded(routerHealth(expertLoad)),
      skipped,
    };
    this.#lines.append(line);
    this.#record(metrics);
  }

  /** Makes the written lines survive a power cut. */
  flush(): void {
    this.#lines.flush();
  }

  #record({ step, crossEntropy, preferences, expertLoad, validationLoss, skipped }: StepMetrics): void {
    if (skipped) return;
    this.#train.add(step, [preferences?.loss ?? crossEntropy]);
    this.#load.add(step, expertLoad.flat());
    this.#expertsPerLayer = expertLoad.map((layer) => layer.length);
    if (Number.isFinite(validationLoss)) this.#validation.push({ step, loss: validationLoss! });
  }

  /** A filter that keeps the lines up to a checkpoint and records them. */
  #replay(stepsDone: number): (value: unknown) => boolean {
    const stepOf = stepCounter();
    return (value) => {
      if (!isStep(value)) return false;
      const step = stepOf(value);
      if (step > stepsDone) return false;
      this.#record({ ...value, step });
      return true;
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

/**
 * Returns a function that gives the step of each line, called in order. Lines without `update` come from an older version,
 * whose `step` was the number of the update, which a skipped step leaves to the next one.
 */
export function stepCounter(): (line: { step: number; update?: unknown; skipped?: unknown }) => number {
  let skippedBefore = 0;
  return ({ step, update, skipped }) => {
    const counted = update === undefined ? step + skippedBefore : step;
    if (skipped === true) skippedBefore++;
    return counted;
  };
}

function rounded({ loadEntropy, maxOverMean, deadExperts }: RouterHealth): RouterHealth {
  const round = (value: number | null) => value && Math.round(value * 1e4) / 1e4;
  return { loadEntropy: loadEntropy.map(round), maxOverMean: maxOverMean.map(round), deadExperts };
}

function isStep(value: unknown): value is StepMetrics {
  const { step, expertLoad } = (value ?? {}) as Partial<StepMetrics>;
  return typeof step === 'number' && Array.isArray(expertLoad);
}
