import { type Command, Option } from 'commander';
import { MODEL_OPTIONS } from '../../config/modelOptions';
import { TRAIN_OPTIONS } from '../../config/trainConfig';
import type { SaveInterval } from '../../training/run/saveSchedule';
import { DEFAULT_MAX_SKIPPED_STEPS } from '../../training/skipLimit';
import { DEFAULT_VOCAB_SIZE } from './dataOptions';
import { DEFAULT_RECIPE, type ModelCliOptions } from './recipe';
import { addTableOptions } from './tableOptions';
import { decimal, integer, saveInterval, someText } from './values';

/** The parsed options of `sgemoe train` that TRAIN_OPTIONS lacks. */
export interface TrainCliOptions extends ModelCliOptions {
  /** Paths of the data; required unless a resumed run's file names them. */
  data: string[];
  out: string;
  overwrite?: boolean;
  resume?: boolean;
  initFrom?: string;
  config?: string;
  seqLen: number;
  batchSize: number;
  steps: number;
  warmup?: number;
  gradAccumulation: number;
  seed: number;
  maxSkippedSteps: number;
  evalInterval: number;
  evalBatches: number;
  saveInterval?: SaveInterval;
  keep: number;
  earlyStopping: number;
  earlyStoppingMinDelta: number;
  sampleInterval: number;
  samplePrompt: string;
  tokenizer?: string;
  vocabSize?: number;
  validationFraction?: number;
  threads?: number;
  sampleTokens: number;
}

/** Declares every option of `sgemoe train`. */
export function addTrainOptions(command: Command): void {
  command
    .option('--data <paths...>', 'files or folders with text, or one prepared data set')
    .option(
      '--out <dir>',
      'run folder, made if needed; it must be new, empty or (--overwrite, --resume) a run',
    )
    .option('--overwrite', 'replace the earlier run in --out (default: refuse)')
    .option(
      '--resume',
      'go on with the run in --out from its last checkpoint, with its own options; --data is not needed (default: a new run)',
    )
    .option(
      '--init-from <dir>',
      'start from the weights and the tokenizer of this checkpoint, with a fresh optimizer (default: from random weights)',
    )
    .option(
      '--config <file>',
      'JSON with options by their names, such as { "data": ["book.txt"], "hiddenDim": 64 }, or the run.json of a run; ' +
        'options of the command line take precedence (default: none)',
    )
    .option(
      '--tokenizer <name>',
      "'byte', 'char' (the characters of the text), 'bpe' (trained on the text first), or a tokenizer.json or a folder with one (default: byte, " +
        'with a prepared data set its own)',
    )
    .option(
      '--vocab-size <n>',
      `tokens of --tokenizer bpe, an integer >= 257 (default: ${DEFAULT_VOCAB_SIZE})`,
      integer(257),
    );
  addModelOptions(command);
  addRecipeOptions(command);
  addRunOptions(command);
}

function addModelOptions(command: Command): void {
  command
    .optionsGroup('Model:')
    .addOption(
      new Option(
        '--preset <name>',
        'start from these sizes: tiny (hidden 64, 2 layers, 4 experts of 256) or small (hidden 256, experts of 1024); ' +
          'options below change single ones (default: the sizes below, about 1.05 million parameters)',
      ).choices(['tiny', 'small']),
    );
  addTableOptions(command, MODEL_OPTIONS, { defaultText: (value) => `${value}, or the preset's` });
}

function addRecipeOptions(command: Command): void {
  const recipe = DEFAULT_RECIPE;
  command
    .optionsGroup('Training:')
    .option('--seq-len <n>', 'tokens in a sequence, an integer >= 1', integer(1), recipe.seqLen)
    .option('--batch-size <n>', 'sequences in a step, an integer >= 1', integer(1), recipe.batchSize);
  addTableOptions(command, TRAIN_OPTIONS)
    .option(
      '--max-skipped-steps <n>',
      'end the run as diverged after this many steps in a row whose loss or gradient is not finite, an integer >= 0; 0 is never',
      integer(0),
      DEFAULT_MAX_SKIPPED_STEPS,
    )
    .option(
      '--seed <n>',
      'seed of the first weights, the windows and the sample, an integer in 0..2^53-1',
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
      'batches in each evaluation during the run, an integer >= 1; the final one reads the whole split',
      integer(1),
      recipe.evalBatches,
    )
    .option(
      '--early-stopping <n>',
      'end after this many evaluations in a row without a lower validation loss, an integer >= 0; 0 is off',
      integer(0),
      0,
    )
    .option(
      '--early-stopping-min-delta <x>',
      'a validation loss counts as lower if it fell by more than this, in nats, a number >= 0',
      decimal({ min: 0 }),
      0,
    )
    .option(
      '--save-interval <n>',
      "steps from one save to the next, an integer >= 1, or minutes, as '10m' (default: save at every evaluation)",
      saveInterval,
    )
    .option(
      '--keep <n>',
      'checkpoints kept beside the best, an integer >= 1; with more than one, the last ones stay in checkpoints/',
      integer(1),
      1,
    )
    .option(
      '--validation-fraction <x>',
      'share of the text kept for validation, 0 <= x < 1; 0 is no validation (default: 0.1; a prepared data set has its own)',
      decimal({ min: 0, below: 1 }),
    )
    .option('--threads <n>', 'threads, in 1..256 (default: one per core)', integer(1, 256))
    .option(
      '--sample-tokens <n>',
      'tokens of each sample and of the one at the end, an integer >= 0; 0 is none',
      integer(0),
      300,
    )
    .option(
      '--sample-interval <n>',
      'steps from one sample in samples.jsonl to the next, an integer >= 0; 0 is none',
      integer(0),
      0,
    )
    .option('--sample-prompt <text>', 'text that samples continue, not empty', someText, '\n');
}
