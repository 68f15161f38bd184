import type { Command } from 'commander';
import type { Collectives } from '../../backend/collectives';
import { requireMemory } from '../../base/requireMemory';
import { MoETransformer } from '../../model/model';
import type { Tokenizer } from '../../text/tokenizer';
import { together } from '../../training/distributed/agreement';
import { TrainingRun } from '../../training/run/trainingRun';
import { Trainer } from '../../training/trainer';
import { type DataOptions, openData } from '../options/dataOptions';
import { sharedExperts } from '../options/expertOptions';
import { checkpointPath } from '../options/hubOptions';
import { storableOptions } from '../options/optionFiles';
import { MODEL_FLAGS, modelConfig } from '../options/recipe';
import { addTrainOptions, type TrainCliOptions } from '../options/trainOptions';
import { shellQuote } from '../terminal/format';
import { Interrupt } from '../terminal/interrupt';
import type { CliContext, CliIo } from '../terminal/io';
import { describeRun } from '../terminal/runSummary';
import { asUsage, UsageError } from '../terminal/usageError';
import { onRanks } from './ranks';
import {
  beginRun,
  checkData,
  completeOptions,
  finishRun,
  loadForTuning,
  recipeOf,
  resumeRun,
  showRun,
  trainConfigOf,
  trainingBytes,
} from './trainingCommand';

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

SIGUSR1 saves after the step. Ctrl-C (or SIGTERM) finishes the step and its evaluation, saves and ends with exit code 130. A second one, at least half a
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
    context.exitCode = await onRanks(context.io, command.opts(), ({ ranks, io }) =>
      trainCommand(command, ranks.collectives, io),
    );
  });
}

async function trainCommand(command: Command, collectives: Collectives, io: CliIo): Promise<number> {
  const { options, start, openChecked } = await together(collectives, () =>
    prepare(command, collectives, io),
  );
  const interrupt = new Interrupt(io.signals);
  try {
    const recipe = { ...recipeOf(options), settings: storableOptions(command), signal: interrupt.signal };
    const { out, overwrite, resume } = options;
    const run =
      start === null
        ? await resumeRun(options, {
            ...recipe,
            collectives,
            dataset: (tokenizer) => openChecked({ ...options, tokenizer, vocabSize: undefined }),
          })
        : await TrainingRun.start(out, { ...recipe, ...start, overwrite: overwrite || resume });
    await showRun(run, describeRun(run.dataset, run.trainer, run.dir), io);
    const next = `sgemoe generate ${shellQuote(out)} --prompt "..."`;
    return await finishRun(run, options, { command: 'train', say: 'Let it write', next }, io);
  } finally {
    interrupt.release();
  }
}

/** Reads the options, and the data and the model of a run that begins; null for one that goes on. */
async function prepare(command: Command, collectives: Collectives, io: CliIo) {
  const options = await completeOptions<TrainCliOptions>(command);
  const goesOn = await beginRun(options, '--init-from');
  const openChecked = async (source: TrainCliOptions | DataOptions) => {
    const dataset = await openData(source, io);
    checkData(options, dataset);
    return dataset;
  };
  if (goesOn) return { options, openChecked, start: null };
  const started = await withInit(options, io);
  const dataset = await openChecked(started);
  const trainer = await newTrainer(started, dataset.tokenizer, collectives);
  return { options, openChecked, start: { dataset, trainer } };
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

async function newTrainer(
  options: TrainCliOptions,
  tokenizer: Tokenizer,
  collectives: Collectives,
): Promise<Trainer> {
  const { initFrom } = options;
  const model =
    initFrom === undefined
      ? newModel(options, tokenizer, collectives)
      : await loadForTuning(initFrom, options, tokenizer, { collectives });
  const trainConfig = trainConfigOf(options);
  return asUsage(() => new Trainer(model, trainConfig, { collectives }));
}

function newModel(
  options: TrainCliOptions,
  { vocabSize }: Tokenizer,
  collectives: Collectives,
): MoETransformer {
  const config = modelConfig(options, vocabSize, options.seqLen);
  const expertRanks = sharedExperts(options, collectives);
  requireMemory('The training', trainingBytes(config, options, { collectives }));
  return MoETransformer.create(config, { seed: options.seed, expertRanks });
}
