import { type Command, Option } from 'commander';
import { backendInfo, getKernels } from '../backend';
import { MoETransformer } from '../model';
import { Trainer } from '../train';
import { DEFAULT_VOCAB_SIZE, openData } from './dataset';
import { asUsage } from './errors';
import { shellQuote } from './format';
import { type CliContext, type CliIo, EXIT } from './io';
import { decimal, integer } from './options';
import { DEFAULT_RECIPE, DEFAULT_SIZES, defaultWarmup, modelConfig, type SizeOptions } from './recipe';
import { describeResult, describeRun } from './report';
import { checkRunFolder, openRunFolder } from './runFolder';
import { runTraining, writeSample } from './training';
import { packageVersion } from './version';

interface TrainCliOptions extends SizeOptions {
  data: string[];
  out: string;
  overwrite?: boolean;
  seqLen: number;
  batchSize: number;
  steps: number;
  lr: number;
  warmup?: number;
  weightDecay: number;
  gradClip: number;
  auxLoss: number;
  zLoss: number;
  gradAccumulation: number;
  seed: number;
  evalInterval: number;
  evalBatches: number;
  tokenizer?: string;
  vocabSize?: number;
  validationFraction?: number;
  threads?: number;
  sampleTokens: number;
}

const NOTES = `
Text is read as bytes (256 tokens), unless --tokenizer says otherwise. Files and folders are joined in the order given; the
end of the whole is kept for validation. A folder stands for the text files in it and below (no dot-files, node_modules,
links, binary files). Instead of text, --data takes one data set of sgemoe data prepare: it is read from the disk while
training goes on, in passes over its windows in random order.

The run folder (--out) gets
  config.json, model.safetensors, tokenizer.json (and the tokenizer's other files)   the last weights, saved at every evaluation, at the end, on Ctrl-C
  best/            the same of the evaluation with the lowest validation loss
  metrics.jsonl    one line for each step: step, loss (= crossEntropy + auxLoss + zLoss), crossEntropy, auxLoss, zLoss,
                   lr, gradNorm, tokens, tokensPerSec, validationLoss and validationBitsPerByte (where evaluated),
                   expertLoad (by layer), skipped
  curve.svg        the losses and the load of the experts over the steps
  run.json         the settings, and at the end the result
Losses are in nats per token; bits per byte of text compare between tokenizers. A step whose loss or gradient isn't finite is skipped, and counted.

Ctrl-C (or SIGTERM) finishes the step, saves and ends with exit code 130; once more, half a second later or after, ends
without waiting for the save.

Examples:
  $ sgemoe train --data book.txt --out runs/book
  $ sgemoe train --data notes/ more.txt --out runs/notes --steps 5000 --lr 1e-3
  $ sgemoe train --data book.txt --tokenizer bpe --vocab-size 1000 --out runs/bpe
  $ sgemoe train --data book.txt --out runs/wide --hidden-dim 192 --experts 8 --ffn-dim 256 --seq-len 256
`;

export function addTrainCommand(program: Command, context: CliContext): void {
  const command = program
    .command('train')
    .description('Train a model on text and save it.')
    .requiredOption('--data <paths...>', 'files or folders with text, or one prepared data set')
    .requiredOption('--out <dir>', 'run folder, made if needed; it must be new, empty or (--overwrite) a run')
    .option('--overwrite', 'replace the earlier run in --out (default: refuse)')
    .option(
      '--tokenizer <name>',
      "'byte', 'bpe' (trained on the text first), or a tokenizer.json or a folder with one (default: byte, " +
        'with a prepared data set its own)',
    )
    .option(
      '--vocab-size <n>',
      `tokens of --tokenizer bpe, an integer >= 257 (default: ${DEFAULT_VOCAB_SIZE})`,
      integer(257),
    );
  addSizeOptions(command);
  addRecipeOptions(command);
  addRunOptions(command);
  command.addHelpText('after', NOTES).action(async (options: TrainCliOptions) => {
    context.exitCode = await trainCommand(options, context.io);
  });
}

function addSizeOptions(command: Command): void {
  const sizes = DEFAULT_SIZES;
  const option = (flags: string, meaning: string, value: number) =>
    command.option(flags, `${meaning}, an integer >= 1 (default: ${value}, or the preset's)`, integer(1));
  command
    .optionsGroup('Size of the model:')
    .addOption(
      new Option(
        '--preset <name>',
        'start from these sizes: tiny (hidden 64, 2 layers, 4 experts of 256) or small (hidden 256, experts of 1024); ' +
          'options below change single ones (default: the sizes below, about 1.05 million parameters)',
      ).choices(['tiny', 'small']),
    );
  option('--hidden-dim <n>', 'width of the residual stream', sizes.hiddenDim);
  option('--layers <n>', 'transformer blocks', sizes.layers);
  option('--heads <n>', 'query heads', sizes.heads);
  option('--kv-heads <n>', 'key/value heads; must divide --heads', sizes.kvHeads);
  command.option(
    '--head-dim <n>',
    'width of a head, an even integer >= 2 (default: --hidden-dim / --heads)',
    integer(2),
  );
  option('--experts <n>', 'experts in each block', sizes.experts);
  option('--top-k-experts <n>', 'experts that each token passes; at most --experts', sizes.topKExperts);
  option('--ffn-dim <n>', 'inner width of an expert', sizes.ffnDim);
}

function addRecipeOptions(command: Command): void {
  const recipe = DEFAULT_RECIPE;
  const positive = decimal({ min: 0 });
  command
    .optionsGroup('Training:')
    .option('--seq-len <n>', 'tokens in a sequence, an integer >= 1', integer(1), recipe.seqLen)
    .option('--batch-size <n>', 'sequences in a step, an integer >= 1', integer(1), recipe.batchSize)
    .option('--steps <n>', 'steps to make, an integer >= 1', integer(1), recipe.steps)
    .option(
      '--lr <x>',
      'highest learning rate, a number >= 0; after the warmup it falls as a cosine to a tenth at --steps',
      positive,
      recipe.lr,
    )
    .option(
      '--warmup <n>',
      'steps of rising learning rate, an integer >= 0 (default: a tenth of --steps, at most 100)',
      integer(0),
    )
    .option('--weight-decay <x>', 'of AdamW, decoupled, a number >= 0', positive, recipe.weightDecay)
    .option(
      '--grad-clip <x>',
      'largest gradient norm, a number >= 0; 0 is no limit',
      positive,
      recipe.gradClip,
    )
    .option('--aux-loss <x>', "weight of the experts' balance loss, a number >= 0", positive, recipe.auxLoss)
    .option('--z-loss <x>', "weight of the router's z-loss, a number >= 0; 0 is off", positive, 0)
    .option(
      '--grad-accumulation <n>',
      'parts that a batch is computed in, to save memory, in 1..batch-size',
      integer(1),
      1,
    )
    .option(
      '--seed <n>',
      'of the first weights, the windows and the sample, an integer in 0..2^53-1',
      integer(0, Number.MAX_SAFE_INTEGER),
      42,
    );
}

function addRunOptions(command: Command): void {
  const recipe = DEFAULT_RECIPE;
  command
    .optionsGroup('Evaluation and run:')
    .option(
      '--eval-interval <n>',
      'steps from one evaluation (and save) to the next, an integer >= 1',
      integer(1),
      recipe.evalInterval,
    )
    .option(
      '--eval-batches <n>',
      'batches in an evaluation on the way, an integer >= 1; the last one reads the whole split',
      integer(1),
      recipe.evalBatches,
    )
    .option(
      '--validation-fraction <x>',
      'share of the text kept for validation, 0 <= x < 1; 0 is no validation (default: 0.1; a prepared data set has its own)',
      decimal({ min: 0, below: 1 }),
    )
    .option('--threads <n>', 'threads, in 1..256 (default: one per core)', integer(1, 256))
    .option(
      '--sample-tokens <n>',
      'length of the sample at the end, in tokens, an integer >= 0; 0 is none',
      integer(0),
      300,
    );
}

async function trainCommand(options: TrainCliOptions, io: CliIo): Promise<number> {
  const { out, steps, seqLen, batchSize, seed, evalInterval, evalBatches } = options;
  await checkRunFolder(out, options.overwrite ?? false);
  const dataset = await openData(options, io);
  const config = modelConfig(options, dataset.tokenizer.vocabSize, seqLen);
  if (options.threads !== undefined) getKernels().setThreads(options.threads);
  const model = MoETransformer.create(config, { seed });
  const trainer = createTrainer(model, options);
  const folder = await openRunFolder(out);
  const settings = { sgemoe: packageVersion(), options, files: dataset.files, model: config };
  await folder.writeRun({ ...settings, backend: backendInfo() });
  io.stdout.write(`${describeRun(dataset, config, folder)}\n\n`);
  const result = await runTraining(
    { trainer, dataset, folder, batchSize, seqLen, seed, evalInterval, evalBatches },
    io,
  );
  await folder.writeRun({ ...settings, backend: backendInfo(), result });
  io.stdout.write(`${describeResult(result, steps, out)}\n`);
  if (result.interrupted) return EXIT.interrupted;
  if (options.sampleTokens > 0) {
    io.stdout.write('\nSample:\n');
    await writeSample(model, dataset, { maxTokens: options.sampleTokens, seed }, io);
  }
  io.stdout.write(`\nLet it write:  sgemoe generate ${shellQuote(out)} --prompt "..."\n`);
  return EXIT.ok;
}

function createTrainer(model: MoETransformer, options: TrainCliOptions): Trainer {
  const { steps, lr, warmup, weightDecay, gradClip, auxLoss, zLoss, gradAccumulation, batchSize } = options;
  return asUsage(() => {
    if (gradAccumulation > batchSize) {
      throw new RangeError(
        `--grad-accumulation (${gradAccumulation}) must be at most --batch-size (${batchSize}).`,
      );
    }
    return new Trainer(model, {
      lr,
      weightDecay,
      gradClip: gradClip === 0 ? Number.POSITIVE_INFINITY : gradClip,
      warmupSteps: warmup ?? defaultWarmup(steps),
      totalSteps: steps,
      auxLossAlpha: auxLoss,
      zLossCoef: zLoss,
      gradAccumulationSteps: gradAccumulation,
    });
  });
}
