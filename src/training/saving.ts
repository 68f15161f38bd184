import type { Kernels } from '../backend/kernels';
import { checkInteger, checkOptions } from '../base/checks';
import { withChanges } from '../base/options';
import { CHECKPOINT_FILES, loadTensorsInto, saveCheckpoint } from '../checkpoint/checkpoint';
import { keepInHistory } from '../checkpoint/retention';
import { checkTraining, invalidState, openTraining, tensorsChecksum } from '../checkpoint/trainingFiles';
import type { ModelConfig } from '../config/modelConfig';
import { resolveTrainConfig, type TrainConfig } from '../config/trainConfig';
import { memoryBytes } from '../model/memoryBytes';
import { MoETransformer } from '../model/model';
import type { DataPosition } from '../text/data';
import { tokenizerHash } from '../text/readTokenizer';
import type { Tokenizer } from '../text/tokenizer';
import { Trainer } from './trainer';

export interface SaveTrainingOptions {
  /** Where the data stand after the last step: `batches.getState()`, taken before the next batch is drawn. */
  data?: DataPosition | undefined;
  /** Its files are saved beside the weights, and its hash in the state. */
  tokenizer?: Tokenizer | undefined;
  /** Anything of the caller's that JSON keeps, such as the best loss so far; `resumeTraining` gives it back. */
  progress?: Readonly<Record<string, unknown>> | undefined;
  /** Checkpoints kept, an integer >= 1: with more than one, the last ones stay in checkpoints/step-<n>. Default 1. */
  keep?: number | undefined;
}

export interface ResumeOptions {
  /** What computes. Default: the process's backend. */
  kernels?: Kernels | undefined;
  /** Options other than those of the training so far. */
  config?: TrainConfig | undefined;
  /** Told of what a training of an earlier version lacks. */
  onNote?: ((note: string) => void) | undefined;
}

export interface ResumedTraining {
  /** With `model`, at the step it was saved at. */
  trainer: Trainer;
  /** For `batches.setState`; null when none was saved. */
  data: DataPosition | null;
  /** `tokenizerHash` of the tokenizer saved; null when there was none. */
  tokenizerHash: string | null;
  progress: Record<string, unknown>;
}

/**
 * Saves everything that a training goes on from, bit for bit: the checkpoint of the model, and beside it
 * optimizer.safetensors (both moments of AdamW under the parameters' names) and state.json (counters, options, data
 * position, tokenizer hash, and checksums of all of it). All files are replaced together or not at all, see `saveCheckpoint`. They are written from
 * the model's own memory: no train step until the promise is settled.
 * @throws SgemoeError SGEMOE_CHECKPOINT_WRITE; the training in memory is as before, so that it can go on and be saved
 * again. SgemoeError SGEMOE_TRAINING_SAVING from a train step meanwhile.
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
  const tensors = trainer.model.store.checkpointTensors();
  const { gradClip } = trainer.config;
  const state = {
    ...trainer.getState(),
    // JSON has no Infinity.
    config: { ...trainer.config, gradClip: Number.isFinite(gradClip) ? gradClip : null },
    data: data ?? null,
    tokenizerSha256: tokenizer === undefined ? null : tokenizerHash(tokenizer),
    progress,
  };
  await trainer.whileUnchanged(() =>
    saveCheckpoint(dir, {
      config: trainer.model.config.toJSON(),
      generationConfig: trainer.model.generationConfig,
      tensors,
      ...tokenizer?.files(),
      training: { state, optimizer: trainer.moments(), weightsChecksum: tensorsChecksum(tensors) },
    }),
  );
  if (keep === 1) return;
  const step = trainer.step + trainer.skippedSteps;
  await keepInHistory(dir, { step, keep, files: CHECKPOINT_FILES });
}

/**
 * A training as `saveTraining` left it. With the same data from its position on, the same machine, backend and thread
 * count, the steps that follow are bit for bit those of a training that was never interrupted.
 * @throws SgemoeError SGEMOE_TRAINING_STATE when the folder holds no training, one of whose files a bit has changed, or other
 * weights than it belongs to; otherwise as `MoETransformer.load`. TypeError or RangeError for `config`.
 */
export async function resumeTraining(dir: string, options: ResumeOptions = {}): Promise<ResumedTraining> {
  checkOptions('resumeTraining', options, ['kernels', 'config', 'onNote']);
  const { kernels } = options;
  // The activations follow when there is a batch: Trainer.requireMemory.
  const needs = (config: ModelConfig) => memoryBytes(config, { batch: 1, seq: 1, kernels });
  const model = await MoETransformer.load(dir, { kernels, needs });
  const stored = await openTraining(dir, tensorsChecksum(model.store.checkpointTensors()));
  const { state, optimizer } = stored;
  try {
    const config = storedConfig(optimizer.path, state.config);
    const trainer = new Trainer(model, withChanges(config, options.config ?? {}));
    setCounters(trainer, optimizer.path, state);
    await loadTensorsInto(optimizer, trainer.moments());
    if (!(await checkTraining(dir, stored, trainer.moments()))) options.onNote?.(withoutChecksums(dir));
    return {
      trainer,
      data: objectOrNull(state.data) as DataPosition | null,
      tokenizerHash: typeof state.tokenizerSha256 === 'string' ? state.tokenizerSha256 : null,
      progress: objectOrNull(state.progress) ?? {},
    };
  } finally {
    await optimizer.close();
  }
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
