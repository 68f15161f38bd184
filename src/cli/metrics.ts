import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  openSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { createInterface } from 'node:readline';
import type { StepResult, TrainerState } from '../train';
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
  readonly #file: number;
  readonly #train = new BinnedSeries(LOSS_BINS);
  readonly #load = new BinnedSeries(LOAD_BINS);
  readonly #validation: { step: number; loss: number }[] = [];
  #expertsPerLayer: number[] = [];
  /** What could not be written yet. */
  #pending: Uint8Array = new Uint8Array(0);

  /** @throws Error of the system when the file can't be opened. */
  constructor(
    path: string,
    private readonly write: (file: number, bytes: Uint8Array) => number = writeSync,
  ) {
    this.#file = openSync(path, 'a');
  }

  /**
   * The log of a run that goes on at a checkpoint: lines of steps after it, and a line that was cut off, are removed.
   */
  static async continue(path: string, at: TrainerState): Promise<MetricsLog> {
    const log = new MetricsLog(path);
    if (existsSync(path)) truncateSync(path, await log.#replay(path, at));
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
    this.#pending = Buffer.concat([this.#pending, Buffer.from(`${JSON.stringify(line)}\n`)]);
    this.#record(metrics);
    this.#writePending();
  }

  /** Lines that a full disk refused are kept, and written with the next one. */
  #writePending(): void {
    try {
      while (this.#pending.length > 0) {
        this.#pending = this.#pending.subarray(this.write(this.#file, this.#pending));
      }
    } catch {
      // Told of by the next save, which fails as well.
    }
  }

  /** Makes the lines survive a power cut, as far as the disk takes them. */
  flush(): void {
    this.#writePending();
    try {
      fsyncSync(this.#file);
    } catch {
      // As above.
    }
  }

  #record({ step, crossEntropy, expertLoad, validationLoss, skipped }: StepMetrics): void {
    if (skipped) return;
    this.#train.add(step, [crossEntropy]);
    this.#load.add(step, expertLoad.flat());
    this.#expertsPerLayer = expertLoad.map((layer) => layer.length);
    if (Number.isFinite(validationLoss)) this.#validation.push({ step, loss: validationLoss! });
  }

  /** Records the lines up to a checkpoint. Returns the bytes they take. */
  async #replay(path: string, at: TrainerState): Promise<number> {
    let bytes = 0;
    let skippedSteps = 0;
    for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
      const line = parseLine(text);
      if (line === null) break;
      if (line.skipped) skippedSteps++;
      // A skipped step has the number of the next one, so the count tells whether it was before the checkpoint.
      const after = line.skipped ? skippedSteps > at.skippedSteps : line.step > at.step;
      if (after) break;
      bytes += Buffer.byteLength(text) + 1;
      this.#record(line);
    }
    return bytes;
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
    this.#writePending();
    closeSync(this.#file);
  }
}

function rounded({ loadEntropy, maxOverMean, deadExperts }: RouterHealth): RouterHealth {
  const round = (value: number) => Math.round(value * 1e4) / 1e4;
  return { loadEntropy: loadEntropy.map(round), maxOverMean: maxOverMean.map(round), deadExperts };
}

/** null for what is not a whole line. */
function parseLine(text: string): StepMetrics | null {
  try {
    const line = JSON.parse(text) as StepMetrics;
    return typeof line.step === 'number' && Array.isArray(line.expertLoad) ? line : null;
  } catch {
    return null;
  }
}
