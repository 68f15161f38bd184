import { backendInfo } from '../../backend';
import type { Collectives } from '../../backend/collectives';
import { soloCollectives } from '../../backend/collectives/solo';
import { SgemoeError } from '../../base/errors';
import { packageVersion } from '../../base/version';
import { type FolderLock, lockFolder } from '../../checkpoint/folderLock';
import type { DataPosition, TokenDataset, TrainingBatches } from '../../text/data';
import { readTokenizer, tokenizerHash } from '../../text/readTokenizer';
import { fromFirst, isAgreed, together } from '../distributed/agreement';
import { type ResumedTraining, resumeTraining } from '../saving';
import type { Trainer } from '../trainer';
import type { RunEvent } from './events';
import { prepareReference } from './reference';
import type { TrainingResult } from './result';
import { RunFolder } from './runFolder';
import { RunLoop, type RunSetup } from './runLoop';
import {
  type CompleteRunOptions,
  checkResume,
  checkStart,
  type ResumeRunOptions,
  type StartRunOptions,
} from './runOptions';
import { type RunProgress, RunState } from './runState';

/**
 * A whole training in a folder, as `sgemoe train` runs it. It trains, evaluates, keeps the best weights, stops early, saves,
 * writes metrics and samples, draws the curve, and yields events while it is iterated:
 *
 *     const run = await TrainingRun.start('runs/book', { trainer, dataset, batchSize: 16, seqLen: 128 });
 *     for await (const event of run) if (event.type === 'evaluation') show(event.step, event.loss);
 *
 * `start` or `resume` locks the folder, so that other processes are refused until the iteration ends or `close()` is
 * called. Files in it are touched only once the iteration begins. An abort of the signal finishes the current step, saves
 * and ends. Leaving the loop ends the run without a save.
 *
 * With a trainer of several ranks every rank makes the run: all get the events, rank 0 locks and writes. Failures of rank 0's
 * writes are thrown on all; a rank that fails otherwise aborts the others.
 */
export class TrainingRun implements AsyncIterable<RunEvent> {
  /** How the run ended; null before its end. */
  result: TrainingResult | null = null;
  readonly #setup: RunSetup;
  readonly #isNew: boolean;
  readonly #lock: FolderLock | null;
  readonly #notes: string[];
  #isIterated = false;

  private constructor(
    setup: RunSetup,
    lock: FolderLock | null,
    { isNew, notes }: { isNew: boolean; notes: string[] },
  ) {
    this.#setup = setup;
    this.#lock = lock;
    this.#isNew = isNew;
    this.#notes = lock === null || lock.note === null ? notes : [lock.note, ...notes];
  }

  /**
   * Prepares a new run in a folder, which is made when needed. With `overwrite` the folder may hold an earlier run, which
   * the iteration removes first.
   * @throws TypeError or RangeError for the options; SgemoeError SGEMOE_RUN_FOLDER for a folder that holds other things, or a
   * run without `overwrite`; SGEMOE_FOLDER_LOCKED when another process uses it; SGEMOE_CHECKPOINT_WRITE when it can't be
   * written; SGEMOE_DATA_TOO_SHORT; SGEMOE_MEMORY.
   */
  static async start(dir: string, options: StartRunOptions): Promise<TrainingRun> {
    checkDir('TrainingRun.start', dir);
    const complete = checkStart(options);
    const { trainer, overwrite = false } = options;
    const folder = new RunFolder(dir);
    return underLock(folder, trainer.collectives, async (lock) => {
      await fromFirst(trainer.collectives, () => refuseTaken(folder, overwrite));
      trainer.requireMemory(complete.batchSize, complete.seqLen);
      const state = new RunState(trainer, options, {});
      const setup = { folder, trainer, options: complete, state, data: batchesOf(complete, null) };
      return new TrainingRun(setup, lock, { isNew: true, notes: [] });
    });
  }

  /**
   * Resumes the run in a folder from its last checkpoint. With the same data, options, machine, backend and thread count
   * its steps are bit-identical to those of an uninterrupted run.
   * @throws as `start` and `resumeTraining`; SgemoeError SGEMOE_TRAINING_STATE if there is no checkpoint, or the tokenizer
   * or the size of the data set differs.
   */
  static async resume(dir: string, options: ResumeRunOptions): Promise<TrainingRun> {
    checkDir('TrainingRun.resume', dir);
    const { dataset: data, config, kernels, collectives = soloCollectives(), expertParallel } = options;
    if (typeof data !== 'function') checkResume(options, data);
    const folder = new RunFolder(dir);
    const notes: string[] = [];
    const open = async (lock: FolderLock | null) => {
      const resumed = await resumeTraining(dir, {
        config,
        kernels,
        collectives,
        expertParallel,
        onNote: (note) => notes.push(note),
      });
      const dataset = typeof data === 'function' ? await data(await readTokenizer(dir)) : data;
      const complete = checkResume(options, dataset);
      checkSameData(dir, resumed, dataset);
      const { trainer } = resumed;
      trainer.requireMemory(complete.batchSize, complete.seqLen);
      const state = new RunState(trainer, complete, resumed.progress as Partial<RunProgress>);
      const setup = { folder, trainer, options: complete, state, data: batchesOf(complete, resumed.data) };
      return new TrainingRun(setup, lock, { isNew: false, notes });
    };
    return underLock(folder, collectives, (lock) => together(collectives, () => open(lock)));
  }

  get dir(): string {
    return this.#setup.folder.path;
  }

  get trainer(): Trainer {
    return this.#setup.trainer;
  }

  get dataset(): TokenDataset {
    return this.#setup.options.dataset;
  }

  /** Steps made so far, including skipped ones and those of earlier processes. */
  get stepsMade(): number {
    return this.#setup.state.done;
  }

  /** Whether no step is left to make, because all are made or the run has stopped early. */
  get isOver(): boolean {
    return this.#setup.state.isOver;
  }

  /** Evaluations since the last improvement that early stopping saw; 0 without early stopping. */
  get evaluationsWaited(): number {
    return this.#setup.state.earlyStopping?.getState().waited ?? 0;
  }

  /**
   * Makes the run; it can be iterated once.
   * @throws SgemoeError SGEMOE_TRAINING_DIVERGED after `maxSkippedSteps`; SGEMOE_CHECKPOINT_WRITE when all tries of the
   * last save fail; the errors of the data set.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<RunEvent, void, void> {
    if (this.#isIterated)
      throw new TypeError('TrainingRun: a run can be iterated only once; TrainingRun.resume makes a new one');
    this.#isIterated = true;
    const { folder, state, trainer } = this.#setup;
    const { collectives: ranks } = trainer;
    const about = runFileContent(this.#setup);
    let loop: RunLoop | undefined;
    try {
      await fromFirst(ranks, async () => {
        if (this.#isNew) await folder.clear();
        await folder.writeRun(about);
      });
      loop = await RunLoop.open(this.#setup);
      for (const text of this.#notes) yield { type: 'note', text };
      yield { type: 'start', stepsMade: state.doneBefore };
      yield* prepareReference(this.#setup);
      const result = yield* loop.toTheEnd();
      await fromFirst(ranks, () => folder.writeRun({ ...about, result }));
      this.result = result;
      yield { type: 'end', result };
    } catch (error) {
      if (ranks.size > 1 && !isAgreed(error)) ranks.abort(failure(error).message);
      if (this.result === null && ranks.rank === 0)
        await folder.writeRun({ ...about, error: failure(error) }).catch(() => undefined);
      throw error;
    } finally {
      loop?.close();
      await this.#lock?.release();
    }
  }

  /** Asks for a save after the current step, or the next one; of several ranks one is enough. */
  requestSave(): void {
    this.#setup.state.saveRequested = true;
  }

  /** Unlocks the folder of a run that is never iterated; an iterated run unlocks it by itself. */
  async close(): Promise<void> {
    if (this.#isIterated) return;
    this.#isIterated = true;
    await this.#lock?.release();
  }
}

function checkDir(what: string, dir: string): void {
  if (typeof dir !== 'string' || dir === '') throw new TypeError(`${what}: dir must be a path, got ${dir}`);
}

/** Makes a run under the folder's lock, which rank 0 has and which then belongs to the run. If making it fails, the lock is released. */
async function underLock(
  folder: RunFolder,
  ranks: Collectives,
  open: (lock: FolderLock | null) => Promise<TrainingRun>,
): Promise<TrainingRun> {
  let lock: FolderLock | null = null;
  await fromFirst(ranks, async () => {
    lock = await lockFolder(folder.path, 'a training run');
  });
  try {
    return await open(lock);
  } catch (error) {
    await (lock as FolderLock | null)?.release();
    throw error;
  }
}

function batchesOf(
  { dataset, batchSize, seqLen, seed }: CompleteRunOptions,
  position: DataPosition | null,
): TrainingBatches {
  const batches = dataset.batches({ batchSize, seqLen, seed });
  if (position !== null) batches.setState(position);
  return batches;
}

async function refuseTaken(folder: RunFolder, overwrite: boolean): Promise<void> {
  const use = await folder.use();
  if (use === 'free' || (use === 'run' && overwrite)) return;
  throw new SgemoeError(
    'SGEMOE_RUN_FOLDER',
    use === 'run'
      ? `${folder.path} holds an earlier run: resume it, overwrite it, or choose another folder.`
      : `${folder.path} is not empty and holds no earlier run; choose a new folder, so that nothing in it is lost.`,
  );
}

/** @throws SgemoeError SGEMOE_TRAINING_STATE if the tokenizer's hash or the token counts differ from the run's. */
function checkSameData(dir: string, resumed: ResumedTraining, dataset: TokenDataset): void {
  if (resumed.tokenizerHash !== tokenizerHash(dataset.tokenizer)) {
    throw new SgemoeError(
      'SGEMOE_TRAINING_STATE',
      `The tokenizer of the data is not the one that the run in ${dir} was trained with.`,
    );
  }
  const { tokens } = resumed.progress as Partial<RunProgress>;
  const { trainTokens, validationTokens } = dataset;
  if (!tokens || (tokens.train === trainTokens && tokens.validation === validationTokens)) return;
  throw new SgemoeError(
    'SGEMOE_TRAINING_STATE',
    `The run was trained on ${tokens.train} tokens and validated on ${tokens.validation}; the data have become ` +
      `${trainTokens} and ${validationTokens}. A new run may start from its weights.`,
  );
}

/** The content of run.json without the result. */
function runFileContent({ trainer, options }: RunSetup): Record<string, unknown> {
  return {
    sgemoe: packageVersion(),
    options: options.settings ?? settingsOf(trainer, options),
    files: options.dataset.files,
    model: trainer.model.config,
    backend: backendInfo(),
  };
}

function settingsOf(trainer: Trainer, options: CompleteRunOptions): Record<string, unknown> {
  const { dataset, signal, settings, ...told } = options;
  return { ...trainer.config, ...told };
}

function failure(error: unknown): { code?: string | undefined; message: string } {
  const message = error instanceof Error ? error.message : String(error);
  return error instanceof SgemoeError ? { code: error.code, message } : { message };
}
