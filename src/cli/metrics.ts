import { closeSync, openSync, writeSync } from 'node:fs';
import type { StepResult } from '../train';
import type { ChartData } from './chart';
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
  readonly #file: number;
  readonly #train = new BinnedSeries(LOSS_BINS);
  readonly #load = new BinnedSeries(LOAD_BINS);
  readonly #validation: { step: number; loss: number }[] = [];
  #expertsPerLayer: number[] = [];

  /** @throws Error of the system when the file can't be opened. */
  constructor(path: string) {
    this.#file = openSync(path, 'a');
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
      skipped,
    };
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
    if (skipped) return;
    this.#train.add(step, [crossEntropy]);
    this.#load.add(step, expertLoad.flat());
    this.#expertsPerLayer = expertLoad.map((layer) => layer.length);
    if (Number.isFinite(validationLoss)) this.#validation.push({ step, loss: validationLoss! });
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
    closeSync(this.#file);
  }
}
