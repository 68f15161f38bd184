import type { Command } from 'commander';
import { getKernels } from '../../backend';
import { type MemoryNeeds, requireMemory } from '../../base/requireMemory';
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
import { Trainer } from '../../training/trainer';
import { type DataOptions, openData } from '../options/dataOptions';
import { checkpointPath } from '../options/hubOptions';
import { applyConfigFile, applyStoredOptions, storableOptions } from '../options/optionFiles';
import { defaultWarmup, MODEL_FLAGS, modelConfig } from '../options/recipe';
import { fromFlags } from '../options/tableOptions';
import { addTrainOptions, type TrainCliOptions } from '../options/trainOptions';
import { shellQuote } from '../terminal/format';
import { Interrupt } from '../terminal/interrupt';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { RunPrinter } from '../terminal/runPrinter';
import { describeResult, describeRun } from '../terminal/runSummary';
import { asUsage, UsageError } from '../terminal/usageError';

const NOTES = `
Text is read as bytes (256 tokens), unless --tokenizer says otherwise. Files and folders are joined in the order given; the
end of the whole is kept for validation. A folder stands for the text files in it and below (no dot-files, node_modules,
links, binary files). Instead of text, --data takes one data set of sgemoe data prepare: it is read from the disk while
training goes on, in passes over its windows in random order.

The run folder (--out) gets
  config.json, model.safetensors, tokenizer.json (and the tokenizer's other files)   the last weights, saved at every evaluation, at the end, on Ctrl-C
  optimizer.safetensors, state.json   the state that --resume goes on from, saved together with them
  best/            the weights of the evaluation with the lowest validation loss
  checkpoints/     with --keep, the last checkpoints, whole
  samples.jsonl    with --sample-interval, one line for each sample: step, prompt, text
  metrics.jsonl    one line for each step: step (skipped ones count), update (of the optimizer; a skipped step and the next
                   one have the same), loss (= crossEntropy + auxLoss + zLoss), crossEntropy, auxLoss, zLoss, lr, gradNorm,
                   tokens, tokensPerSec, validationLoss and validationBitsPerByte (where evaluated), expertLoad (by
                   layer), router (by layer: loadEntropy, 1 is even; maxOverMean of the load; deadExperts, without a token),
                   skipped
  curve.svg        the losses and the load of the experts over the steps
  run.json         the settings, and at the end the result or the error
Losses are in nats per token; bits per byte of text compare between tokenizers. A step whose loss or gradient isn't
finite is skipped, and counted; --max-skipped-steps in a row end the run.

One process at a time trains in a folder: .sgemoe-lock in it names the process. The lock of a killed process is taken over.

A run that was stopped, killed or cut off by a crash goes on with --resume and makes the same steps as without the break. A
save that fails (disk full) is reported and tried again at the next one; when the last one fails, the exit code is 1.

Ctrl-C (or SIGTERM) finishes the step and its evaluation, saves and ends with exit code 130. A second one, at least half a
second later, ends without waiting for the save.

Examples:
  $ sgemoe train --data book.txt --out runs/book
  $ sgemoe train --data notes/ more.txt --out runs/notes --steps 5000 --lr 1e-3
  $ sgemoe train --data book.txt --tokenizer bpe --vocab-size 1000 --out runs/bpe
  $ sgemoe train --out runs/book --resume
  $ sgemoe train --data letters.txt --init-from runs/book --out runs/letters --lr 3e-4
  $ sgemoe train --data book.txt --out runs/wide --hidden-dim 192 --experts 8 --ffn-dim 256 --seq-len 256
`;

export function addTrainCommand(program: Command, context: CliContext): void {
  const command = program.command('train').description('Train a model on text and save it.');
  addTrainOptions(command);
  command.addHelpText('after', NOTES).action(async () => {
    context.exitCode = await trainCommand(command, context.io);
  });
}

async function trainCommand(command: Command, io: CliIo): Promise<number> {
  const options = await completeOptions(command);
  const { out, resume, overwrite = false } = options;
  if (!resume) await checkRunFolder(out, overwrite);
  if (options.threads !== undefined) getKernels().setThreads(options.threads);
  const goesOn = resume === true && (await canGoOn(new RunFolder(out)));
  const openChecked = async (source: TrainCliOptions | DataOptions) => {
    const dataset = await openData(source, io);
    checkData(options, dataset);
    return dataset;
  };
  // A run that has saved nothing can't be resumed; it starts anew.
  const started = goesOn ? options : await withInit(options, io);
  const dataset = goesOn ? null : await openChecked(started);
  const interrupt = new Interrupt(io.signals);
  try {
    const recipe = { ...recipeOf(options), settings: storableOptions(command), signal: interrupt.signal };
    const run =
      dataset === null
        ? await resumeRun(options, {
            ...recipe,
            dataset: (tokenizer) => openChecked({ ...options, tokenizer, vocabSize: undefined }),
          })
        : await TrainingRun.start(out, {
            ...recipe,
            dataset,
            trainer: await newTrainer(started, dataset.tokenizer),
            overwrite: overwrite || resume,
          });
    await showRun(run, io);
    return await finish(run, options, io);
  } finally {
    interrupt.release();
  }
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
 * @throws UsageError if that would remove weights.
 */
async function canGoOn(folder: RunFolder): Promise<boolean> {
  if (await folder.hasCheckpoint()) return true;
  if (!(await folder.hasWeights())) return false;
  throw new UsageError(
    `${folder.path} has weights, but no state.json to go on from; --init-from starts a new run from them.`,
  );
}

/** @throws UsageError for options that don't fit the data. */
function checkData(options: TrainCliOptions, { tokenizer, validationTokens }: TokenDataset): void {
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
function recipeOf(options: TrainCliOptions): Omit<TrainingRunOptions, 'dataset'> {
  const { earlyStopping, sampleInterval } = options;
  return {
    ...(fromFlags(RUN_OPTIONS, options) as Pick<TrainingRunOptions, 'seqLen' | 'batchSize'>),
    earlyStopping:
      earlyStopping > 0 ? (fromFlags(EARLY_STOPPING_OPTIONS, options) as EarlyStoppingOptions) : undefined,
    samples: sampleInterval > 0 ? { interval: sampleInterval, ...sampleOf(options) } : undefined,
  };
}

function sampleOf({ samplePrompt, sampleTokens, seed }: TrainCliOptions): SampleText {
  return { prompt: samplePrompt, maxTokens: sampleTokens, seed };
}

/** Makes the run and shows its progress. */
async function showRun(run: TrainingRun, io: CliIo): Promise<void> {
  const { model, config } = run.trainer;
  const head = describeRun(run.dataset, model.config, run.dir);
  const printer = new RunPrinter(io.stdout, { totalSteps: config.totalSteps, head });
  try {
    for await (const event of run) printer.show(event);
  } finally {
    printer.clear();
  }
}

async function finish(run: TrainingRun, options: TrainCliOptions, io: CliIo): Promise<number> {
  const { tokenizer } = run.dataset;
  const { model } = run.trainer;
  const result = run.result as TrainingResult;
  const { out, steps, sampleTokens } = options;
  io.stdout.write(`${describeResult(result, steps, out)}\n`);
  if (result.interrupted) return EXIT.interrupted;
  if (sampleTokens > 0) {
    io.stdout.write('\nSample:\n');
    await showSample({ model, tokenizer }, sampleOf(options), io);
  }
  io.stdout.write(`\nLet it write:  sgemoe generate ${shellQuote(out)} --prompt "..."\n`);
  return EXIT.ok;
}

/** Writes a sample to stdout while it is generated; an interrupt ends it. */
async function showSample(writer: Writer, sample: SampleText, io: CliIo): Promise<void> {
  const interrupt = new Interrupt(io.signals);
  try {
    for await (const text of sampleText(writer, sample, interrupt.signal)) io.stdout.write(text);
  } finally {
    interrupt.release();
  }
  io.stdout.write('\n');
}

/**
 * The options in order of precedence: command line, --config, the stored options of a run to resume, defaults.
 * @throws UsageError
 */
async function completeOptions(command: Command): Promise<TrainCliOptions> {
  const { config } = command.opts<TrainCliOptions>();
  if (config !== undefined) await applyConfigFile(command, config);
  const { out, resume, overwrite } = command.opts<Partial<TrainCliOptions>>();
  if (out === undefined) throw new UsageError('--out is missing: it says where the run is saved.');
  if (resume) {
    if (overwrite)
      throw new UsageError('--resume goes on with a run, --overwrite replaces it: give one of them.');
    await applyStoredOptions(command, new RunFolder(out).runFile);
  }
  const options = command.opts<TrainCliOptions>();
  if (options.data === undefined) throw new UsageError('--data is missing: it says what to train on.');
  if (options.sampleInterval > 0 && options.sampleTokens === 0) {
    throw new UsageError('--sample-interval asks for samples, --sample-tokens 0 for none: give one of them.');
  }
  return options;
}

/** The path of the checkpoint that a new run starts from; the run uses the checkpoint's tokenizer. */
async function withInit(options: TrainCliOptions, io: CliIo): Promise<TrainCliOptions> {
  if (options.initFrom === undefined) return options;
  const given = MODEL_FLAGS.filter((name) => name in options);
  if (given.length === 0) {
    const initFrom = await checkpointPath(options.initFrom, {}, io);
    return { ...options, initFrom, tokenizer: options.tokenizer ?? initFrom };
  }
  throw new UsageError(`--init-from takes the model of its checkpoint; leave out ${given.join(', ')}.`);
}

async function newTrainer(options: TrainCliOptions, tokenizer: Tokenizer): Promise<Trainer> {
  const { initFrom } = options;
  const model =
    initFrom === undefined ? newModel(options, tokenizer) : await loadForTuning(initFrom, options, tokenizer);
  const trainConfig = trainConfigOf(options);
  return asUsage(() => new Trainer(model, trainConfig));
}

function newModel(options: TrainCliOptions, { vocabSize }: Tokenizer): MoETransformer {
  const config = modelConfig(options, vocabSize, options.seqLen);
  requireMemory('The training', trainingBytes(config, options));
  return MoETransformer.create(config, { seed: options.seed });
}

/** The memory that the steps need. */
function trainingBytes(config: ModelConfig, options: TrainCliOptions): MemoryNeeds {
  const { gradAccumulationSteps = 1, gradientCheckpointing } = trainConfigOf(options);
  const batch = Math.ceil(options.batchSize / gradAccumulationSteps);
  return memoryBytes(config, { batch, seq: options.seqLen, gradientCheckpointing });
}

/** Loads the weights of a checkpoint; the optimizer starts afresh. @throws UsageError if the options don't fit it. */
async function loadForTuning(
  from: string,
  options: TrainCliOptions,
  tokenizer: Tokenizer,
): Promise<MoETransformer> {
  const { seqLen } = options;
  const model = await MoETransformer.load(from, { needs: (config) => trainingBytes(config, options) });
  const { maxSeqLen, vocabSize } = model.config;
  if (seqLen > maxSeqLen) {
    throw new UsageError(`--seq-len must be at most ${maxSeqLen}, the context of the model in ${from}.`);
  }
  if (tokenizer.vocabSize > vocabSize) {
    throw new UsageError(
      `The tokenizer has ${tokenizer.vocabSize} tokens, the model in ${from} ${vocabSize}.`,
    );
  }
  return model;
}

/** Resumes a run. @throws UsageError for a finished run that the options leave nothing to do. */
async function resumeRun(options: TrainCliOptions, recipe: ResumeRunOptions): Promise<TrainingRun> {
  const { out, steps } = options;
  const isFinished = await new RunFolder(out).isFinished();
  const run = await TrainingRun.resume(out, { ...recipe, config: trainConfigOf(options) });
  if (!(isFinished && run.isOver)) return run;
  await run.close();
  throw new UsageError(
    run.stepsMade >= steps
      ? `The run in ${out} has made its ${steps} steps; give a larger --steps to go on.`
      : `The run in ${out} stopped early, ${run.evaluationsWaited} evaluations without improvement; give a ` +
          'larger --early-stopping to go on, or 0, which switches it off.',
  );
}

function trainConfigOf(options: TrainCliOptions): TrainConfig {
  const { steps, warmup, gradAccumulation, batchSize } = options;
  if (gradAccumulation > batchSize) {
    throw new UsageError(
      `--grad-accumulation (${gradAccumulation}) must be at most --batch-size (${batchSize}).`,
    );
  }
  return { ...fromFlags(TRAIN_OPTIONS, options), warmupSteps: warmup ?? defaultWarmup(steps) };
}
