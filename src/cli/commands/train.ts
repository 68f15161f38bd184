import type { Command } from 'commander';
import { backendInfo, getKernels } from '../../backend';
import type { TrainConfig } from '../../config/trainConfig';
import { MoETransformer } from '../../model/model';
import type { TokenDataset } from '../../text/data';
import { tokenizerHash } from '../../text/readTokenizer';
import { checkRunFolder, openRunFolder, RunFolder } from '../../training/run/runFolder';
import { checkPrompt, type SampleOptions, showSample } from '../../training/run/samples';
import {
  type RunProgress,
  runTraining,
  type TrainingJob,
  type TrainingResult,
} from '../../training/run/trainingRun';
import { type ResumedTraining, resumeTraining } from '../../training/saving';
import { Trainer } from '../../training/trainer';
import { openData } from '../options/dataOptions';
import { applyConfigFile, applyStoredOptions, storableOptions } from '../options/optionFiles';
import { defaultWarmup, MODEL_OPTIONS, modelConfig } from '../options/recipe';
import { addTrainOptions, type TrainCliOptions } from '../options/trainOptions';
import { shellQuote } from '../terminal/format';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { describeResult, describeRun } from '../terminal/runSummary';
import { asUsage, UsageError } from '../terminal/usageError';
import { packageVersion } from '../version';

const NOTES = `
Text is read as bytes (256 tokens), unless --tokenizer says otherwise. Files and folders are joined in the order given; the
end of the whole is kept for validation. A folder stands for the text files in it and below (no dot-files, node_modules,
links, binary files). Instead of text, --data takes one data set of sgemoe data prepare: it is read from the disk while
training goes on, in passes over its windows in random order.

The run folder (--out) gets
  config.json, model.safetensors, tokenizer.json (and the tokenizer's other files)   the last weights, saved at every evaluation, at the end, on Ctrl-C
  optimizer.safetensors, state.json   what --resume goes on from, saved with them, all at once
  best/            the weights of the evaluation with the lowest validation loss
  checkpoints/     with --keep, the last checkpoints, whole
  samples.jsonl    with --sample-interval, one line for each sample: step, prompt, text
  metrics.jsonl    one line for each step: step, loss (= crossEntropy + auxLoss + zLoss), crossEntropy, auxLoss, zLoss,
                   lr, gradNorm, tokens, tokensPerSec, validationLoss and validationBitsPerByte (where evaluated),
                   expertLoad (by layer), router (by layer: loadEntropy, 1 is even; maxOverMean of the load;
                   deadExperts, without a token), skipped
  curve.svg        the losses and the load of the experts over the steps
  run.json         the settings, and at the end the result
Losses are in nats per token; bits per byte of text compare between tokenizers. A step whose loss or gradient isn't finite is skipped, and counted.

A run that was stopped, killed or cut off by a crash goes on with --resume, with the very steps that it would have made. A save
that fails (disk full) is told of and tried again at the next one; when the last one fails, the exit code is 1.

Ctrl-C (or SIGTERM) finishes the step and its evaluation, saves and ends with exit code 130; once more, half a second later or after, ends
without waiting for the save.

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

/** What a run starts from, new or resumed. */
interface Start {
  trainer: Trainer;
  dataset: TokenDataset;
  resumed: ResumedTraining | null;
}

async function trainCommand(command: Command, io: CliIo): Promise<number> {
  const options = await completeOptions(command);
  const { out, steps, seqLen, batchSize, seed, evalInterval, evalBatches } = options;
  const existing = options.resume ? new RunFolder(out) : null;
  if (existing === null) await checkRunFolder(out, options.overwrite ?? false);
  if (options.threads !== undefined) getKernels().setThreads(options.threads);
  const saved = existing !== null && (await canGoOn(existing));
  const { trainer, dataset, resumed } = await (saved ? resumeRun(options, io) : newRun(options, io));
  if (options.earlyStopping > 0 && dataset.validationTokens === 0) {
    throw new UsageError('--early-stopping goes by evaluations, and there is no text for validation.');
  }
  if (options.sampleTokens > 0) checkPrompt(options.samplePrompt, dataset.tokenizer);
  const { model } = trainer;
  const folder = saved ? existing : await openRunFolder(out, { sameRun: existing !== null });
  const run = { sgemoe: packageVersion(), options: storableOptions(command), files: dataset.files };
  const settings = { ...run, model: model.config, backend: backendInfo() };
  await folder.writeRun(settings);
  io.stdout.write(`${describeRun(dataset, model.config, folder)}\n\n`);
  const recipe = { batchSize, seqLen, seed, evalInterval, evalBatches, ...runOptions(options) };
  const result = await runTraining({ trainer, dataset, folder, resumed, ...recipe }, io);
  await folder.writeRun({ ...settings, result });
  return finish(result, { options, model, dataset }, steps, io);
}

/** false where a run made no checkpoint yet: it starts anew. @throws UsageError when that would remove weights. */
async function canGoOn(folder: RunFolder): Promise<boolean> {
  if (await folder.hasCheckpoint()) return true;
  if (!(await folder.hasWeights())) return false;
  throw new UsageError(
    `${folder.path} has weights, but no state.json to go on from; --init-from starts a new run from them.`,
  );
}

/** What a run does beside its steps. */
function runOptions(options: TrainCliOptions): Pick<TrainingJob, 'saving' | 'earlyStopping' | 'samples'> {
  const { saveInterval, keep, earlyStopping: patience, earlyStoppingMinDelta: minDelta } = options;
  const { sampleInterval: interval } = options;
  return {
    saving: { interval: saveInterval, keep },
    earlyStopping: patience > 0 ? { patience, minDelta } : undefined,
    samples: interval > 0 ? { interval, ...sampleOptions(options) } : undefined,
  };
}

function sampleOptions({ samplePrompt, sampleTokens, seed }: TrainCliOptions): SampleOptions {
  return { prompt: samplePrompt, maxTokens: sampleTokens, seed };
}

async function finish(
  result: TrainingResult,
  { options, model, dataset }: { options: TrainCliOptions; model: MoETransformer; dataset: TokenDataset },
  steps: number,
  io: CliIo,
): Promise<number> {
  const { out } = options;
  io.stdout.write(`${describeResult(result, steps, out)}\n`);
  if (result.interrupted) return EXIT.interrupted;
  if (options.sampleTokens > 0) {
    io.stdout.write('\nSample:\n');
    await showSample({ model, tokenizer: dataset.tokenizer }, sampleOptions(options), io);
  }
  io.stdout.write(`\nLet it write:  sgemoe generate ${shellQuote(out)} --prompt "..."\n`);
  return EXIT.ok;
}

/**
 * The options of the command line, then those of --config, then, of a run to resume, its own, then the defaults.
 * @throws UsageError
 */
async function completeOptions(command: Command): Promise<TrainCliOptions> {
  const { config } = command.opts<TrainCliOptions>();
  if (config !== undefined) await applyConfigFile(command, config);
  const { out, resume, overwrite } = command.opts<Partial<TrainCliOptions>>();
  if (out === undefined) throw new UsageError('--out says where the run is to be saved; it is missing.');
  if (resume) {
    if (overwrite)
      throw new UsageError('--resume goes on with a run, --overwrite replaces it: give one of them.');
    await applyStoredOptions(command, new RunFolder(out).runFile);
  }
  const options = command.opts<TrainCliOptions>();
  if (options.data === undefined) throw new UsageError('--data says what to train on; it is missing.');
  if (options.sampleInterval > 0 && options.sampleTokens === 0) {
    throw new UsageError('--sample-interval asks for samples, --sample-tokens 0 for none: give one of them.');
  }
  return options;
}

async function newRun(options: TrainCliOptions, io: CliIo): Promise<Start> {
  const { initFrom, seed } = options;
  if (initFrom !== undefined) return fineTuning(options, initFrom, io);
  const dataset = await openData(options, io);
  const config = modelConfig(options, dataset.tokenizer.vocabSize, options.seqLen);
  const trainConfig = trainConfigOf(options);
  const trainer = asUsage(() => new Trainer(MoETransformer.create(config, { seed }), trainConfig));
  return { trainer, dataset, resumed: null };
}

/** Weights and tokenizer of a checkpoint; the optimizer starts afresh. */
async function fineTuning(options: TrainCliOptions, from: string, io: CliIo): Promise<Start> {
  const given = MODEL_OPTIONS.filter((name) => options[name] !== undefined);
  if (given.length > 0) {
    throw new UsageError(`--init-from takes the model of its checkpoint; leave out ${given.join(', ')}.`);
  }
  const model = await MoETransformer.load(from);
  const { maxSeqLen, vocabSize } = model.config;
  if (options.seqLen > maxSeqLen) {
    throw new UsageError(
      `--seq-len must be at most ${maxSeqLen}, which is what the model in ${from} looks back.`,
    );
  }
  const dataset = await openData({ ...options, tokenizer: options.tokenizer ?? from }, io);
  if (dataset.tokenizer.vocabSize > vocabSize) {
    throw new UsageError(
      `The tokenizer has ${dataset.tokenizer.vocabSize} tokens, the model in ${from} ${vocabSize}.`,
    );
  }
  const trainConfig = trainConfigOf(options);
  return { trainer: asUsage(() => new Trainer(model, trainConfig)), dataset, resumed: null };
}

async function resumeRun(options: TrainCliOptions, io: CliIo): Promise<Start> {
  const { out } = options;
  const dataset = await openData({ ...options, tokenizer: out, vocabSize: undefined }, io);
  const config = trainConfigOf(options);
  const resumed = await resumeTraining(out, { config });
  if (resumed.tokenizerHash !== tokenizerHash(dataset.tokenizer)) {
    throw new UsageError(`The tokenizer in ${out} is not the one that the run was trained with.`);
  }
  const progress = resumed.progress as Partial<RunProgress>;
  checkSameData(progress, dataset);
  if (await new RunFolder(out).isFinished()) checkStepsLeft(resumed.trainer, progress, options);
  return { trainer: resumed.trainer, dataset, resumed };
}

/** Of a run that has told its result. @throws UsageError when the options leave it nothing to do. */
function checkStepsLeft(
  { step, skippedSteps }: Trainer,
  progress: Partial<RunProgress>,
  { out, steps, earlyStopping }: TrainCliOptions,
): void {
  if (step + skippedSteps >= steps) {
    throw new UsageError(`The run in ${out} has made its ${steps} steps; a larger --steps goes on.`);
  }
  const waited = progress.earlyStopping?.waited ?? 0;
  if (earlyStopping > 0 && waited >= earlyStopping) {
    throw new UsageError(
      `The run in ${out} stopped early, ${waited} evaluations without improvement; a larger --early-stopping goes ` +
        'on, as 0 does, which is off.',
    );
  }
}

function checkSameData(
  { tokens }: Partial<RunProgress>,
  { trainTokens, validationTokens }: TokenDataset,
): void {
  if (!tokens || (tokens.train === trainTokens && tokens.validation === validationTokens)) return;
  throw new UsageError(
    `The run was trained on ${tokens.train} tokens and validated on ${tokens.validation}; the data have become ` +
      `${trainTokens} and ${validationTokens}. --init-from starts a new run from its weights.`,
  );
}

function trainConfigOf(options: TrainCliOptions): Partial<TrainConfig> {
  const { steps, warmup, gradClip, gradAccumulation, batchSize } = options;
  if (gradAccumulation > batchSize) {
    throw new UsageError(
      `--grad-accumulation (${gradAccumulation}) must be at most --batch-size (${batchSize}).`,
    );
  }
  const { lr, schedule, minLrRatio, weightDecay, weightDecayExclude, beta1, beta2, eps } = options;
  return {
    ...{ lr, schedule, minLrRatio, weightDecay, weightDecayExclude, beta1, beta2, eps },
    gradClip: gradClip === 0 ? Number.POSITIVE_INFINITY : gradClip,
    warmupSteps: warmup ?? defaultWarmup(steps),
    totalSteps: steps,
    auxLossAlpha: options.auxLoss,
    zLossCoef: options.zLoss,
    routerBiasUpdateRate: options.routerBiasUpdateRate,
    gradAccumulationSteps: gradAccumulation,
    gradientCheckpointing: options.gradientCheckpointing ?? false,
  };
}
