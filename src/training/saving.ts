import type { Collectives } from '../backend/collectives';
import { soloCollectives } from '../backend/collectives/solo';
import type { Kernels } from '../backend/kernels';
import { checkInteger, checkOptions } from '../base/checks';
import { withChanges } from '../base/options';
import { CHECKPOINT_FILES, saveCheckpoint } from '../checkpoint/checkpoint';
import { keepInHistory } from '../checkpoint/retention';
import {
  checkState,
  checkTrainingFiles,
  hex,
  invalidState,
  openTraining,
  type StoredTraining,
} from '../checkpoint/trainingFiles';
import type { ModelConfig } from '../config/modelConfig';
import { resolveTrainConfig, type TrainConfig } from '../config/trainConfig';
import { memoryBytes } from '../model/memoryBytes';
import { MoETransformer } from '../model/model';
import type { DataPosition } from '../text/data';
import { tokenizerHash } from '../text/readTokenizer';
import type { Tokenizer } from '../text/tokenizer';
import { together } from './distributed/agreement';
import { expertRanksOf } from './distributed/divided';
import { PieceFiles } from './pieceFiles';
import { adaptersState, loadAdapted, saveAdapters } from './savingAdapters';
import { loadMoments, piecesCrc32, weightPieces, weightsChecksum } from './savingPieces';
import { Trainer } from './trainer';

export interface SaveTrainingOptions {
  /** The data position after the last step: `batches.getState()`, taken before the next batch is drawn. */
  data?: DataPosition | undefined;
  /** The tokenizer, whose files are saved beside the weights and whose hash is saved in the state. */
  tokenizer?: Tokenizer | undefined;
  /** The caller's own JSON values, such as the best loss so far; `resumeTraining` returns them. */
  progress?: Readonly<Record<string, unknown>> | undefined;
  /** Checkpoints to keep, an integer >= 1; with more than one, the last ones stay in checkpoints/step-<n>. Default 1. */
  keep?: number | undefined;
}

export interface ResumeOptions {
  /** The kernels that compute. Default: the process's backend. */
  kernels?: Kernels | undefined;
  /** Changes to the saved trainer options. */
  config?: TrainConfig | undefined;
  /** The ranks that share the steps, see `TrainerOptions`; all resume, from the same folder. Default: this one alone. */
  collectives?: Collectives | undefined;
  /** Neighbouring ranks that together have each expert once, see `ExpertRanks.groupSize`. Default 1: each has all. */
  expertParallel?: number | undefined;
  /** Called with a sentence about what a training saved by an earlier version lacks, or what changes. */
  onNote?: ((note: string) => void) | undefined;
}

export interface ResumedTraining {
  /** The trainer with its `model`, at the saved step. */
  trainer: Trainer;
  /** The data position for `batches.setState`; null if none was saved. */
  data: DataPosition | null;
  /** `tokenizerHash` of the saved tokenizer; null if there was none. */
  tokenizerHash: string | null;
  progress: Record<string, unknown>;
}

/**
 * Saves everything that a bit-identical resume needs: the checkpoint of the model, or its adapters as `saveLora` does, optimizer.safetensors (both moments of
 * AdamW under the parameters' names) and state.json (counters, options, data position, tokenizer hash, and checksums of all
 * of it). All files are replaced together or not at all, see `saveCheckpoint`. They are written from the model's own memory,
 * so train steps are refused until the promise settles. Of several ranks all call it: those that see
 * rank 0's folder as their `dir` write their moments into its files, the others send them to rank 0, which commits.
 * @throws TypeError for adapters on a model that wasn't loaded from a checkpoint; SgemoeError SGEMOE_CHECKPOINT_WRITE; the training in memory is unchanged and can go on and be saved again. A
 * train step meanwhile throws SgemoeError SGEMOE_TRAINING_SAVING.
 */
export async function saveTraining(
  dir: string,
  trainer: Trainer,
  options: SaveTrainingOptions = {},
): Promise<void> {
  checkOptions('saveTraining', options, ['data', 'tokenizer', 'progress', 'keep']);
  if (typeof dir !== 'string' || dir === '')
    throw new TypeError(`saveTraining: dir must be a path, got ${dir}`);
  if (!(trainer instanceof Trainer)) throw new TypeError('saveTraining: trainer must be a Trainer');
  const { data, tokenizer, progress = {}, keep = 1 } = options;
  checkInteger('saveTraining: keep', keep, 1);
  const { model } = trainer;
  const { gradClip } = trainer.config;
  const state = {
    ...trainer.getState(),
    // JSON has no Infinity.
    config: { ...trainer.config, gradClip: Number.isFinite(gradClip) ? gradClip : null },
    data: data ?? null,
    tokenizerSha256: tokenizer === undefined ? null : tokenizerHash(tokenizer),
    progress,
    ...(model.lora && { adapters: adaptersState(model) }),
  };
  const isDivided = model.trained.isPart;
  const moments = trainer.momentPieces();
  const weights = isDivided ? weightPieces(model) : [];
  const ranks = trainer.collectives;
  const files = new PieceFiles(ranks, dir, [weights, moments]);
  const write = async (checksum: string, optimizerChecksum: string) => {
    const { config, generationConfig } = model;
    const tensors = isDivided ? files.tensors(0) : model.trained.checkpointTensors();
    const training = { state, optimizer: files.tensors(1), optimizerChecksum, weightsChecksum: checksum };
    const content = { config: config.toJSON(), generationConfig, tensors, ...tokenizer?.files(), training };
    await (model.lora ? saveAdapters(dir, model, tokenizer, training) : saveCheckpoint(dir, content));
    const step = trainer.step + trainer.skippedSteps;
    if (keep > 1) await keepInHistory(dir, { step, keep, files: CHECKPOINT_FILES });
  };
  await trainer.whileUnchanged(async () => {
    const checksum = await weightsChecksum(model);
    const optimizerChecksum = hex(await piecesCrc32(ranks, moments));
    await files.save(() => write(checksum, optimizerChecksum));
  });
}

/**
 * Resumes a training that `saveTraining` saved; one of adapters loads their base from where it was. With the same data from its position on, and the same machine, backend and
 * thread count, the next steps are bit-identical to those of an uninterrupted training.
 * @throws SgemoeError SGEMOE_TRAINING_STATE if the folder holds no training, a file is damaged, or the weights aren't those
 * of the training; the errors of `MoETransformer.load`; TypeError or RangeError for `config`.
 */
export async function resumeTraining(dir: string, options: ResumeOptions = {}): Promise<ResumedTraining> {
  checkOptions('resumeTraining', options, ['kernels', 'config', 'collectives', 'expertParallel', 'onNote']);
  const ranks = options.collectives ?? soloCollectives();
  const model = await together(ranks, () => readModel(dir, options));
  const checksum = await weightsChecksum(model);
  const { trainer, stored } = await together(ranks, () => readTraining(dir, model, checksum, options));
  const momentsCrc = await piecesCrc32(ranks, trainer.momentPieces());
  const isChecked = await together(ranks, () => checkState(dir, stored, momentsCrc));
  if (!isChecked) options.onNote?.(withoutChecksums(dir));
  const { data, tokenizerSha256, progress } = stored.state;
  return {
    trainer,
    data: objectOrNull(data) as DataPosition | null,
    tokenizerHash: typeof tokenizerSha256 === 'string' ? tokenizerSha256 : null,
    progress: objectOrNull(progress) ?? {},
  };
}

/** The model of a training, with this rank's experts where they are divided. */
async function readModel(
  dir: string,
  { kernels, collectives, expertParallel = 1 }: ResumeOptions,
): Promise<MoETransformer> {
  // Trainer.requireMemory checks the activations once there is a batch.
  const needs = (config: ModelConfig) =>
    memoryBytes(config, { batch: 1, seq: 1, kernels, ranks: collectives?.size, expertParallel });
  const expertRanks = expertRanksOf(collectives, expertParallel);
  await checkTrainingFiles(dir);
  const adapted = await loadAdapted(dir, kernels);
  if (adapted === null) return MoETransformer.load(dir, { kernels, needs, expertRanks });
  if (expertRanks !== undefined)
    throw new RangeError(`expertParallel must be 1 for a training of adapters, got ${expertParallel}`);
  return adapted;
}

/** A trainer with everything that was saved, of the moments this rank's parts; their file is closed. */
async function readTraining(
  dir: string,
  model: MoETransformer,
  checksum: string,
  { collectives, onNote, config: changes = {} }: ResumeOptions,
): Promise<{ trainer: Trainer; stored: StoredTraining }> {
  const stored = await openTraining(dir, checksum);
  const { state, optimizer } = stored;
  try {
    const config = withChanges(storedConfig(optimizer.path, state.config), changes);
    const fitting = { ...config, microBatches: fittingMicroBatches(config, collectives, onNote) };
    const trainer = new Trainer(model, fitting, { collectives });
    setCounters(trainer, optimizer.path, state);
    await loadMoments(optimizer, trainer.momentPieces());
    return { trainer, stored };
  } finally {
    await optimizer.close();
  }
}

/** The stored number of micro-batches, or the next that the ranks can share. */
function fittingMicroBatches(
  { microBatches = 1 }: TrainConfig,
  collectives: Collectives | undefined,
  onNote: ResumeOptions['onNote'],
): number {
  const ranks = collectives?.size ?? 1;
  const fitting = Math.ceil(microBatches / ranks) * ranks;
  if (fitting !== microBatches) {
    onNote?.(
      `A step has ${fitting} micro-batches now, since ${ranks} ranks can't share ${microBatches}: the steps are not those of the run so far.`,
    );
  }
  return fitting;
}

function withoutChecksums(dir: string): string {
  return `${dir} was saved by an earlier version, without checksums of all its files: damage to the optimizer's would not be seen. The next save writes them.`;
}

function storedConfig(path: string, stored: unknown): TrainConfig {
  const config = objectOrNull(stored) as TrainConfig | null;
  if (config === null) throw invalidState(path, 'the state beside it has no config');
  const { gradClip } = config;
  const complete = { ...config, gradClip: gradClip === null ? Number.POSITIVE_INFINITY : gradClip };
  try {
    return resolveTrainConfig(complete, 0);
  } catch (cause) {
    throw invalidState(path, `the state beside it can't be used: ${(cause as Error).message}`, cause);
  }
}

function setCounters(trainer: Trainer, path: string, state: Record<string, unknown>): void {
  const { step, skippedSteps } = state as { step: number; skippedSteps: number };
  try {
    trainer.setState({ step, skippedSteps });
  } catch (cause) {
    throw invalidState(path, `the state beside it can't be used: ${(cause as Error).message}`, cause);
  }
}

function objectOrNull(value: unknown): Record<string, unknown> | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null;
}
