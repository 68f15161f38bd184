import type { Kernels } from '../../backend/kernels';
import { checkInteger, checkOptions } from '../../base/checks';
import { DEFAULT_SEED } from '../../base/random';
import type { TrainConfig } from '../../config/trainConfig';
import type { TokenDataset } from '../../text/data';
import type { Tokenizer } from '../../text/tokenizer';
import { EarlyStopping, type EarlyStoppingOptions } from '../earlyStopping';
import { SkipLimit } from '../skipLimit';
import { Trainer } from '../trainer';
import type { LossReference } from './chart';
import type { SampleOptions } from './samples';
import type { SaveInterval } from './saveSchedule';

/** Options of a training run; its length is the trainer's totalSteps. */
export interface TrainingRunOptions {
  dataset: TokenDataset;
  /** Sequences in a step. */
  batchSize: number;
  /** Tokens in a sequence. */
  seqLen: number;
  /** Seed of the order of training windows. Default 42. */
  seed?: number | undefined;
  /** Steps between evaluations, an integer >= 1. Without a validation split nothing is evaluated. Default 100. */
  evalInterval?: number | undefined;
  /** Batches of an evaluation during the run, an integer >= 1; the last evaluation reads the whole split. Default 20. */
  evalBatches?: number | undefined;
  /** Ends the run when evaluations stop improving. Default: the run makes all its steps. */
  earlyStopping?: EarlyStoppingOptions | undefined;
  /**
   * Skipped steps in a row, an integer >= 0, after which the run has diverged and ends with SGEMOE_TRAINING_DIVERGED;
   * 0 is no limit. Default 10.
   */
  maxSkippedSteps?: number | undefined;
  /** Samples to generate during the run, and how often. Default: none. */
  samples?: SampleOptions | undefined;
  /** The time between saves, as `{ steps }` or `{ minutes }`. Default: a save at every evaluation. */
  saveInterval?: SaveInterval | undefined;
  /** Checkpoints to keep, an integer >= 1; with more than one, the last ones stay in checkpoints/step-<n>. Default 1. */
  keep?: number | undefined;
  /** Pauses in seconds before each new try when the save at the end fails. Default [1, 5, 15, 30, 60]. */
  retrySeconds?: readonly number[] | undefined;
  /** Losses that the chart shows for comparison. */
  references?: readonly LossReference[] | undefined;
  /** The settings to write into run.json. Default: these options and the trainer's. */
  settings?: Readonly<Record<string, unknown>> | undefined;
  /** An abort finishes the current step with its evaluation, saves, and ends the run as `interrupted`. */
  signal?: AbortSignal | undefined;
}

export interface StartRunOptions extends TrainingRunOptions {
  trainer: Trainer;
  /** Whether to replace an earlier run in the folder. Default false, which refuses the folder. */
  overwrite?: boolean | undefined;
}

export interface ResumeRunOptions extends Omit<TrainingRunOptions, 'dataset'> {
  /**
   * The data, or a function that opens them with the tokenizer of the run's folder, which is read after its checksum was
   * found right.
   */
  dataset: TokenDataset | ((tokenizer: Tokenizer) => Promise<TokenDataset>);
  /** Changes to the run's trainer options, such as a larger totalSteps. */
  config?: TrainConfig | undefined;
  /** The kernels that compute. Default: the process's backend. */
  kernels?: Kernels | undefined;
}

export type CompleteRunOptions = TrainingRunOptions &
  Required<Pick<TrainingRunOptions, 'seed' | 'evalInterval' | 'evalBatches' | 'keep'>>;

const KNOWN = [
  'dataset',
  'batchSize',
  'seqLen',
  'seed',
  'evalInterval',
  'evalBatches',
  'earlyStopping',
  'maxSkippedSteps',
  'samples',
  'saveInterval',
  'keep',
  'retrySeconds',
  'references',
  'settings',
  'signal',
];

export function checkStart(options: StartRunOptions): CompleteRunOptions {
  const complete = checkRun('TrainingRun.start', options, ['trainer', 'overwrite']);
  if (options.trainer instanceof Trainer) return complete;
  throw new TypeError('TrainingRun.start: trainer must be a Trainer');
}

/** @param dataset what `options.dataset` is, or has opened */
export function checkResume(options: ResumeRunOptions, dataset: TokenDataset): CompleteRunOptions {
  return checkRun('TrainingRun.resume', { ...options, dataset }, ['config', 'kernels']);
}

/** Checks the options before anything is done. @throws TypeError or RangeError */
function checkRun(what: string, options: TrainingRunOptions, more: readonly string[]): CompleteRunOptions {
  checkOptions(what, options, [...KNOWN, ...more]);
  const { dataset, earlyStopping, samples, saveInterval, maxSkippedSteps } = options;
  const { seed = DEFAULT_SEED, evalInterval = 100, evalBatches = 20, keep = 1 } = options;
  if (typeof dataset?.batches !== 'function') throw new TypeError(`${what}: dataset must be a TokenDataset`);
  const counts = { batchSize: options.batchSize, seqLen: options.seqLen, evalInterval, evalBatches, keep };
  for (const [name, value] of Object.entries(counts)) checkInteger(`${what}: ${name}`, value, 1);
  new SkipLimit(maxSkippedSteps);
  if (earlyStopping !== undefined) {
    new EarlyStopping(earlyStopping);
    if (dataset.validationTokens === 0) {
      throw new RangeError(
        `${what}: earlyStopping goes by evaluations, and the data set has no validation split`,
      );
    }
  }
  if (samples !== undefined) checkSamples(`${what}: samples`, samples, dataset);
  if (saveInterval !== undefined) checkSaveInterval(`${what}: saveInterval`, saveInterval);
  const own = Object.fromEntries(Object.entries(options).filter(([name]) => KNOWN.includes(name)));
  return { ...(own as unknown as TrainingRunOptions), seed, evalInterval, evalBatches, keep };
}

function checkSamples(what: string, samples: SampleOptions, { tokenizer }: TokenDataset): void {
  checkOptions(what, samples, ['interval', 'prompt', 'maxTokens', 'seed']);
  const { interval, prompt, maxTokens } = samples;
  checkInteger(`${what}: interval`, interval, 1);
  checkInteger(`${what}: maxTokens`, maxTokens, 1);
  if (typeof prompt !== 'string') throw new TypeError(`${what}: prompt must be a text, got ${typeof prompt}`);
  // An empty prompt can't be continued. The check comes now, not at the first sample, which would end the training.
  if (tokenizer.encode(prompt).length === 0) {
    throw new RangeError(`${what}: prompt ${JSON.stringify(prompt)} has no tokens in this tokenizer`);
  }
}

function checkSaveInterval(what: string, interval: SaveInterval): void {
  checkOptions(what, interval, ['steps', 'minutes']);
  if ('steps' in interval) checkInteger(`${what}: steps`, interval.steps, 1);
  else if (!(interval.minutes > 0)) {
    throw new RangeError(`${what}: must be { steps } or { minutes } with a number > 0`);
  }
}
