import type { Collectives } from '../../backend/collectives';
import type { Kernels } from '../../backend/kernels';
import { checkOptions } from '../../base/checks';
import { integer, namesOf, type OptionTable, other, ownOptions, resolveOptions } from '../../base/options';
import { DEFAULT_SEED } from '../../base/random';
import type { TrainConfig } from '../../config/trainConfig';
import type { TokenDataset } from '../../text/data';
import type { Tokenizer } from '../../text/tokenizer';
import { EarlyStopping, type EarlyStoppingOptions } from '../earlyStopping';
import { DEFAULT_MAX_SKIPPED_STEPS } from '../skipLimit';
import { Trainer } from '../trainer';
import type { LossReference } from './chart';
import { SAMPLE_OPTIONS, type SampleOptions } from './samples';
import { RETRY_SECONDS, type SaveInterval } from './saveSchedule';

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
  /** Losses that the chart shows for comparison. Default: none. */
  references?: readonly LossReference[] | undefined;
  /** The settings to write into run.json. Default: these options and the trainer's. */
  settings?: Readonly<Record<string, unknown>> | undefined;
  /** An abort finishes the current step with its evaluation, saves, and ends the run as `interrupted`. Default: none. */
  signal?: AbortSignal | undefined;
}

/** Flags of `sgemoe train`, which has some of its own beside them. */
export const RUN_OPTIONS: OptionTable<TrainingRunOptions> = {
  dataset: other<TokenDataset>('a TokenDataset', (value) => hasMethod(value, 'batches'), {
    doc: 'what the run is trained and validated on',
  }),
  seqLen: integer({ min: 1 }, { doc: 'tokens in a sequence', cli: { flag: '--seq-len <n>', default: 128 } }),
  batchSize: integer(
    { min: 1 },
    { doc: 'sequences in a step', cli: { flag: '--batch-size <n>', default: 16 } },
  ),
  seed: integer(
    {},
    {
      doc: 'seed of the order of training windows',
      default: DEFAULT_SEED,
      cli: {
        flag: '--seed <n>',
        doc: 'of the first weights, the windows and the sample',
        kind: integer({ min: 0 }, { doc: '' }),
      },
    },
  ),
  evalInterval: integer(
    { min: 1 },
    {
      doc: 'steps from one evaluation to the next',
      default: 100,
      cli: { flag: '--eval-interval <n>', doc: 'steps from one evaluation (and save) to the next' },
    },
  ),
  evalBatches: integer(
    { min: 1 },
    {
      doc: 'batches in an evaluation on the way',
      note: 'the last one reads the whole split',
      default: 20,
      cli: { flag: '--eval-batches <n>' },
    },
  ),
  earlyStopping: other<EarlyStoppingOptions>('EarlyStoppingOptions', isObject, {
    doc: 'when to end because evaluations stop improving',
    absent: 'the run makes all its steps',
  }),
  maxSkippedSteps: integer(
    { min: 0 },
    {
      doc: 'end the run as diverged after so many steps in a row whose loss or gradient is not finite',
      note: '0 is never',
      default: DEFAULT_MAX_SKIPPED_STEPS,
      cli: { flag: '--max-skipped-steps <n>' },
    },
  ),
  samples: other<SampleOptions>('SampleOptions', isObject, {
    doc: 'texts to generate on the way, and how often',
    absent: 'none',
  }),
  saveInterval: other<SaveInterval>(
    '{ steps } or { minutes } with a number > 0',
    isObject,
    {
      doc: 'steps or minutes from one save to the next',
      absent: 'a save at every evaluation',
      cli: {
        flag: '--save-interval <n>',
        doc: "steps from one save to the next, an integer >= 1, or minutes, as '10m'",
        absent: 'save at every evaluation',
      },
    },
    isSaveInterval,
  ),
  keep: integer(
    { min: 1 },
    {
      doc: 'checkpoints kept beside the best',
      note: 'with more than one, the last ones stay in checkpoints/',
      default: 1,
      cli: { flag: '--keep <n>' },
    },
  ),
  retrySeconds: other<readonly number[]>('a list of seconds >= 0', isSeconds, {
    doc: 'pauses before each new try when the save at the end fails',
    absent: RETRY_SECONDS.join(', '),
  }),
  references: other<readonly LossReference[]>('a list of losses with their names', Array.isArray, {
    doc: 'losses that the chart shows for comparison',
    absent: 'none',
  }),
  settings: other<Readonly<Record<string, unknown>>>('an object', isObject, {
    doc: 'settings to write into run.json',
    absent: "these options and the trainer's",
  }),
  signal: other<AbortSignal>('an AbortSignal', (value) => hasMethod(value, 'addEventListener'), {
    doc: 'an abort finishes the current step with its evaluation, saves, and ends the run',
    absent: 'none',
  }),
};

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
  /** The ranks that share the steps, see `TrainerOptions`. Default: this one alone. */
  collectives?: Collectives | undefined;
  /** As in `ResumeOptions`. */
  expertParallel?: number | undefined;
}

export type CompleteRunOptions = TrainingRunOptions &
  Required<Pick<TrainingRunOptions, 'seed' | 'evalInterval' | 'evalBatches' | 'keep'>>;

export function checkStart(options: StartRunOptions): CompleteRunOptions {
  const complete = checkRun('TrainingRun.start', options, ['trainer', 'overwrite']);
  if (options.trainer instanceof Trainer) return complete;
  throw new TypeError('TrainingRun.start: trainer must be a Trainer');
}

/** @param dataset what `options.dataset` is, or has opened */
export function checkResume(options: ResumeRunOptions, dataset: TokenDataset): CompleteRunOptions {
  const own = ['config', 'kernels', 'collectives', 'expertParallel'];
  return checkRun('TrainingRun.resume', { ...options, dataset }, own);
}

/** Checks the options before anything is done. @throws TypeError or RangeError */
function checkRun(what: string, options: TrainingRunOptions, more: readonly string[]): CompleteRunOptions {
  checkOptions(what, options, [...namesOf<TrainingRunOptions>(RUN_OPTIONS), ...more]);
  const complete = resolveOptions<TrainingRunOptions>(what, RUN_OPTIONS, ownOptions(RUN_OPTIONS, options));
  const { dataset, earlyStopping, samples } = complete;
  if (earlyStopping !== undefined) {
    new EarlyStopping(earlyStopping);
    if (dataset.validationTokens === 0) {
      throw new RangeError(
        `${what}: earlyStopping goes by evaluations, and the data set has no validation split`,
      );
    }
  }
  if (samples !== undefined) checkSamples(`${what}: samples`, samples, dataset);
  return complete as CompleteRunOptions;
}

function checkSamples(what: string, samples: SampleOptions, { tokenizer }: TokenDataset): void {
  const { prompt } = resolveOptions<SampleOptions>(what, SAMPLE_OPTIONS, samples);
  // A prompt without tokens can't be continued. The check comes now, not at the first sample, which would end the training.
  if (tokenizer.encode(prompt).length === 0) {
    throw new RangeError(`${what}: prompt ${JSON.stringify(prompt)} has no tokens in this tokenizer`);
  }
}

function isSaveInterval(interval: SaveInterval): boolean {
  const entries: [string, unknown][] = Object.entries(interval);
  if (entries.length !== 1) return false;
  const [[unit, count]] = entries;
  if (unit === 'steps') return Number.isSafeInteger(count) && (count as number) >= 1;
  return unit === 'minutes' && (count as number) > 0;
}

function isSeconds(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => Number.isFinite(each) && each >= 0);
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function hasMethod(value: unknown, name: string): boolean {
  return typeof (value as Record<string, unknown> | null)?.[name] === 'function';
}
