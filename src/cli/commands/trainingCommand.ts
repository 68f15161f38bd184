/** What `sgemoe train` and `sgemoe finetune` share: the folder, the recipe, the progress, the sample at the end. */
import type { Command } from 'commander';
import { getKernels } from '../../backend';
import type { Collectives } from '../../backend/collectives';
import { soloCollectives } from '../../backend/collectives/solo';
import type { MemoryNeeds } from '../../base/requireMemory';
import type { LoraOptions } from '../../config/loraOptions';
import type { ModelConfig } from '../../config/modelConfig';
import { TRAIN_OPTIONS, type TrainConfig } from '../../config/trainConfig';
import { memoryBytes } from '../../model/memoryBytes';
import { MoETransformer } from '../../model/model';
import type { TokenDataset } from '../../text/data';
import type { Tokenizer } from '../../text/tokenizer';
import { EARLY_STOPPING_OPTIONS, type EarlyStoppingOptions } from '../../training/earlyStopping';
import type { TrainingResult } from '../../training/run/result';
import { RunFolder } from '../../training/run/runFolder';
import { type ResumeRunOptions, RUN_OPTIONS, type TrainingRunOptions } from '../../training/run/runOptions';
import { type SampleText, sampleText, type Writer } from '../../training/run/samples';
import { TrainingRun } from '../../training/run/trainingRun';
import { inExpertFlags, sharedExperts } from '../options/expertOptions';
import { applyConfigFile, applyStoredOptions } from '../options/optionFiles';
import { defaultWarmup } from '../options/recipe';
import { fromFlags } from '../options/tableOptions';
import type { RunCliOptions } from '../options/trainOptions';
import { Interrupt } from '../terminal/interrupt';
import { type CliIo, EXIT } from '../terminal/io';
import { RunPrinter } from '../terminal/runPrinter';
import { describeResult } from '../terminal/runSummary';
import { asUsage, UsageError, usageOf } from '../terminal/usageError';

/** The options of a command whose steps and sample are known. */
export type KnownRunOptions = RunCliOptions & { steps: number; samplePrompt: string };

/**
 * Makes ready for a run: checks its folder and sets the threads. Returns whether it goes on with what the folder has; a run that has
 * saved nothing can't be resumed, and starts anew.
 * @param instead what starts a new run from the folder's weights. @throws UsageError
 */
export async function beginRun(options: RunCliOptions, instead: string): Promise<boolean> {
  const { out, resume, overwrite = false, threads } = options;
  if (!resume) await checkRunFolder(out, overwrite);
  if (threads !== undefined) getKernels().setThreads(threads);
  return resume === true && (await canGoOn(new RunFolder(out), instead));
}

/** @throws UsageError for a folder that can't hold a new run. */
async function checkRunFolder(out: string, overwrite: boolean): Promise<void> {
  const use = await new RunFolder(out).use().catch((error: Error) => {
    throw new UsageError(`--out ${out} can't be used: ${error.message}`);
  });
  if (use === 'file') throw new UsageError(`--out ${out} must be a folder, it is a file.`);
  if (use === 'other') {
    throw new UsageError(
      `--out ${out} is not empty and holds no earlier run; choose a new folder, so that nothing in it is lost.`,
    );
  }
  if (use === 'run' && !overwrite) {
    throw new UsageError(
      `--out ${out} holds an earlier run; --overwrite replaces it, another --out keeps both.`,
    );
  }
}

/**
 * Whether a run has a checkpoint to resume from; otherwise it starts anew.
 * @param instead what starts a new run from the folder's weights.
 * @throws UsageError if starting anew would remove weights.
 */
async function canGoOn(folder: RunFolder, instead: string): Promise<boolean> {
  if (await folder.hasCheckpoint()) return true;
  if (!(await folder.hasWeights())) return false;
  throw new UsageError(
    `${folder.path} has weights, but no state.json to go on from; ${instead} starts a new run from them.`,
  );
}

/** @throws UsageError for options that don't fit the data. */
export function checkData(options: KnownRunOptions, { tokenizer, validationTokens }: TokenDataset): void {
  if (options.earlyStopping > 0 && validationTokens === 0) {
    throw new UsageError('--early-stopping goes by evaluations, and there is no text for validation.');
  }
  if (options.sampleTokens === 0) return;
  if (asUsage(() => tokenizer.encode(options.samplePrompt)).length > 0) return;
  throw new UsageError(
    `--sample-prompt ${JSON.stringify(options.samplePrompt)} has no tokens in this tokenizer; give another, or --sample-tokens 0.`,
  );
}

/** The library options of a run, new or resumed, without its data. */
export function recipeOf(options: KnownRunOptions): Omit<TrainingRunOptions, 'dataset'> {
  const { earlyStopping, sampleInterval } = options;
  return {
    ...(fromFlags(RUN_OPTIONS, options) as Pick<TrainingRunOptions, 'seqLen' | 'batchSize'>),
    earlyStopping:
      earlyStopping > 0 ? (fromFlags(EARLY_STOPPING_OPTIONS, options) as EarlyStoppingOptions) : undefined,
    samples: sampleInterval > 0 ? { interval: sampleInterval, ...sampleOf(options) } : undefined,
  };
}

function sampleOf({ samplePrompt, sampleTokens, seed }: KnownRunOptions): SampleText {
  return { prompt: samplePrompt, maxTokens: sampleTokens, seed };
}

/** Makes the run and shows its progress under the lines of `head`. SIGUSR1 saves after the step. */
export async function showRun(run: TrainingRun, head: string, io: CliIo): Promise<void> {
  const printer = new RunPrinter(io.stdout, { totalSteps: run.trainer.config.totalSteps, head });
  const save = () => run.requestSave();
  io.signals.on('SIGUSR1', save);
  try {
    for await (const event of run) printer.show(event);
  } finally {
    io.signals.off('SIGUSR1', save);
    printer.clear();
  }
}

/** What a command says at its end: what can be done next, 'Let it write', and by which command line. */
export interface RunAdvice {
  command: string;
  say: string;
  next: string;
}

/** Tells how the run ended, writes a sample, and says what can be done next. Returns the exit code. */
export async function finishRun(
  run: TrainingRun,
  options: KnownRunOptions,
  { command, say, next }: RunAdvice,
  io: CliIo,
): Promise<number> {
  const { tokenizer } = run.dataset;
  const { model } = run.trainer;
  const result = run.result as TrainingResult;
  const { out, steps, sampleTokens } = options;
  io.stdout.write(`${describeResult(result, { command, totalSteps: steps, out, next })}\n`);
  if (result.interrupted) return EXIT.interrupted;
  if (sampleTokens > 0) {
    io.stdout.write('\nSample:\n');
    await showSample({ model, tokenizer }, sampleOf(options), io);
  }
  io.stdout.write(`\n${say}:  ${next}\n`);
  return EXIT.ok;
}

/** Writes a sample to stdout while it is generated; an interrupt ends it. */
async function showSample(writer: Writer, sample: SampleText, io: CliIo): Promise<void> {
  const interrupt = new Interrupt(io.signals);
  try {
    for await (const text of sampleText(writer, sample, interrupt.signal)) io.stdout.write(text);
  } finally {
    interrupt.release();
    // An interrupt that reached this rank alone leaves the others with its experts to ask for.
    writer.model.expertExchange?.follow();
  }
  io.stdout.write('\n');
}

/**
 * The options in order of precedence: command line, --config, the stored options of a run to resume, defaults.
 * @throws UsageError
 */
export async function completeOptions<T extends RunCliOptions>(command: Command): Promise<T> {
  const { config } = command.opts<RunCliOptions>();
  if (config !== undefined) await applyConfigFile(command, config);
  const { out, resume, overwrite } = command.opts<Partial<RunCliOptions>>();
  if (out === undefined) throw new UsageError('--out is missing: it says where the run is saved.');
  if (resume) {
    if (overwrite)
      throw new UsageError('--resume goes on with a run, --overwrite replaces it: give one of them.');
    await applyStoredOptions(command, new RunFolder(out).runFile);
  }
  const options = command.opts<T>();
  if (options.data === undefined) throw new UsageError('--data is missing: it says what to train on.');
  if (options.sampleInterval > 0 && options.sampleTokens === 0) {
    throw new UsageError('--sample-interval asks for samples, --sample-tokens 0 for none: give one of them.');
  }
  return options;
}

/** Resumes a run. @throws UsageError for a finished run that the options leave nothing to do. */
export async function resumeRun(options: KnownRunOptions, recipe: ResumeRunOptions): Promise<TrainingRun> {
  const { out, steps } = options;
  const isFinished = await new RunFolder(out).isFinished();
  sharedExperts(options, recipe.collectives ?? soloCollectives());
  const { expertParallel } = options;
  const run = await TrainingRun.resume(out, { ...recipe, config: trainConfigOf(options), expertParallel });
  if (!(isFinished && run.isOver)) return run;
  await run.close();
  throw new UsageError(
    run.stepsMade >= steps
      ? `The run in ${out} has made its ${steps} steps; give a larger --steps to go on.`
      : `The run in ${out} stopped early, ${run.evaluationsWaited} evaluations without improvement; give a ` +
          'larger --early-stopping to go on, or 0, which switches it off.',
  );
}

export function trainConfigOf(options: RunCliOptions & { steps: number }): TrainConfig {
  const { steps, warmup, gradAccumulation, microBatches = 1, batchSize } = options;
  if (gradAccumulation * microBatches > batchSize) {
    const [flags, parts] =
      microBatches === 1
        ? ['--grad-accumulation', gradAccumulation]
        : ['--micro-batches times --grad-accumulation', microBatches * gradAccumulation];
    throw new UsageError(`${flags} (${parts}) must be at most --batch-size (${batchSize}).`);
  }
  return {
    ...fromFlags(TRAIN_OPTIONS, options),
    totalSteps: steps,
    warmupSteps: warmup ?? defaultWarmup(steps),
  };
}

/** Who computes the steps, and of what. */
interface Sharing {
  /** The ranks that share them. */
  collectives: Collectives;
  /** Adapters that are trained in place of the weights. */
  lora?: LoraOptions | undefined;
}

/** The memory that the steps need, on each rank. */
export function trainingBytes(
  config: ModelConfig,
  options: KnownRunOptions,
  { collectives: { size: ranks }, lora }: Sharing,
): MemoryNeeds {
  const { expertParallel } = options;
  const {
    microBatches = ranks,
    gradAccumulationSteps = 1,
    gradientCheckpointing,
    train,
  } = trainConfigOf(options);
  const batch = Math.ceil(options.batchSize / (microBatches * gradAccumulationSteps));
  const seq = options.seqLen;
  const how = { gradientCheckpointing, train, lora, ranks, microBatches, expertParallel };
  return asUsage(() => memoryBytes(config, { batch, seq, ...how }), inExpertFlags);
}

/**
 * Loads the weights of a checkpoint; the optimizer starts afresh. With adapters, the weights stay as they are stored.
 * @throws UsageError if the options don't fit it.
 */
export async function loadForTuning(
  from: string,
  options: KnownRunOptions,
  tokenizer: Tokenizer,
  sharing: Sharing,
): Promise<MoETransformer> {
  const { seqLen } = options;
  const { lora, collectives } = sharing;
  const expertRanks = sharedExperts(options, collectives);
  if (lora !== undefined && expertRanks !== undefined)
    throw new UsageError('--expert-parallel divides experts that are trained; leave out --lora-targets.');
  const loading = MoETransformer.load(from, {
    dtype: lora === undefined ? 'float32' : 'stored',
    needs: (config) => trainingBytes(config, options, sharing),
    expertRanks,
  });
  const model = await (expertRanks ? usageOf(loading, inExpertFlags) : loading);
  const { maxSeqLen, vocabSize } = model.config;
  if (seqLen > maxSeqLen) {
    throw new UsageError(`--seq-len must be at most ${maxSeqLen}, the context of the model in ${from}.`);
  }
  if (tokenizer.vocabSize > vocabSize) {
    throw new UsageError(
      `The tokenizer has ${tokenizer.vocabSize} tokens, the model in ${from} ${vocabSize}.`,
    );
  }
  if (lora !== undefined) asUsage(() => model.addLora(lora));
  return model;
}
