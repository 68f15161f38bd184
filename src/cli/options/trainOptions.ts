import { type Command, Option } from 'commander';
import { MODEL_OPTIONS } from '../../config/modelOptions';
import { TRAIN_OPTIONS } from '../../config/trainConfig';
import { EARLY_STOPPING_OPTIONS } from '../../training/earlyStopping';
import { RUN_OPTIONS } from '../../training/run/runOptions';
import { SAMPLE_OPTIONS } from '../../training/run/samples';
import { DEFAULT_VALIDATION_FRACTION, DEFAULT_VOCAB_SIZE } from './dataOptions';
import { addSharingOptions, type SharingCliOptions } from './expertOptions';
import type { ModelCliOptions } from './recipe';
import { addTableOptions } from './tableOptions';
import { addThreadsOption } from './threads';
import { decimal, integer, saveInterval } from './values';

/** The parsed options of a training that modules read one by one; the tables of options have more. */
export interface RunCliOptions extends SharingCliOptions {
  /** Paths of the data; required unless a resumed run's file names them. */
  data: string[];
  out: string;
  overwrite?: boolean;
  resume?: boolean;
  initFrom?: string;
  config?: string;
  seqLen: number;
  batchSize: number;
  steps?: number;
  warmup?: number;
  gradAccumulation: number;
  microBatches?: number;
  seed: number;
  earlyStopping: number;
  sampleInterval: number;
  samplePrompt?: string;
  validationFraction?: number;
  threads?: number;
  sampleTokens: number;
}

/** Those of `sgemoe train`. */
export interface TrainCliOptions extends ModelCliOptions, RunCliOptions {
  steps: number;
  samplePrompt: string;
  tokenizer?: string;
  vocabSize?: number;
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
      '--init-from <model>',
      'start from the weights and the tokenizer of this checkpoint, a path or a model of the hub, with a fresh optimizer (default: from random weights)',
    )
    .option(
      '--config <file>',
      'JSON with options by their names, such as { "data": ["book.txt"], "hiddenDim": 64 }, or the run.json of a run; ' +
        'options of the command line take precedence (default: none)',
    )
    .option(
      '--tokenizer <name>',
      "'byte', 'char' (the characters of the text), 'bpe' (trained on the text first), a tokenizer.json or a folder with one, or a model of the hub (default: byte, " +
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
  command.optionsGroup('Training:');
  addTableOptions(command, TRAIN_OPTIONS);
}

function addRunOptions(command: Command): void {
  command.optionsGroup('Batches, evaluation and saves:');
  addTableOptions(command, RUN_OPTIONS, {
    collected: { saveInterval: { parse: saveInterval, first: undefined } },
  });
  addTableOptions(command, EARLY_STOPPING_OPTIONS).option(
    '--validation-fraction <x>',
    `share of the text kept for validation, 0 <= x < 1; 0 is no validation (default: ${DEFAULT_VALIDATION_FRACTION}; a prepared data set has its own)`,
    decimal({ min: 0, below: 1 }),
  );
  addTableOptions(command, SAMPLE_OPTIONS);
  addSharingOptions(addThreadsOption(command));
}
