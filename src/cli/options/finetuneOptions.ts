import { type Command, Option } from 'commander';
import { LORA_OPTIONS } from '../../config/loraOptions';
import { TRAIN_OPTIONS } from '../../config/trainConfig';
import { BETA_OPTION, CHAT_DATA_OPTIONS, type ChatDatasetOptions } from '../../text/chats/options';
import { EARLY_STOPPING_OPTIONS } from '../../training/earlyStopping';
import { RUN_OPTIONS } from '../../training/run/runOptions';
import { SAMPLE_OPTIONS } from '../../training/run/samples';
import { addSharingOptions } from './expertOptions';
import { addHubOptions, type HubCliOptions } from './hubOptions';
import { addTableOptions } from './tableOptions';
import { addThreadsOption } from './threads';
import type { RunCliOptions } from './trainOptions';
import { decimal, saveInterval } from './values';

/** The options of `sgemoe finetune`. */
export interface FinetuneCliOptions
  extends RunCliOptions,
    HubCliOptions,
    Pick<ChatDatasetOptions, 'validation' | 'lossOn' | 'tooLong'> {
  epochs: number;
  /** The targets of adapters; without them the weights are trained. */
  loraTargets?: string[];
}

/** The learning rates of weights, and of adapters, which start at 0 and have little to unlearn. */
const LR = { weights: 1e-4, adapters: 1e-3 };
/** Those of preference pairs, whose loss goes on asking for more. */
const PAIRS_LR = { weights: 5e-6, adapters: 5e-5 };

export function defaultLr(adapters: boolean, pairs: boolean): number {
  return (pairs ? PAIRS_LR : LR)[adapters ? 'adapters' : 'weights'];
}

const DEFAULT_EPOCHS = 3;

/** Where tuning differs from training from scratch: fewer tokens, a lower learning rate, no decay towards 0. */
const TRAIN_CHANGES = {
  totalSteps: { absent: 'as many as --epochs takes' },
  lr: {
    default: LR.weights,
    note: `with adapters the default is ${LR.adapters}, on pairs ${PAIRS_LR.weights} and ${PAIRS_LR.adapters}`,
  },
  weightDecay: { default: 0 },
  auxLossAlpha: { absent: "the model's" },
};
const RUN_CHANGES = {
  seqLen: {
    doc: 'tokens of a row, which holds one or more samples, or both answers of one or more pairs',
    absent: "512, on pairs 1024, at most the model's context",
  },
  batchSize: { doc: 'rows in a step', default: 2 },
  seed: { doc: 'of the order of the samples, and of the texts of --sample-tokens' },
  evalInterval: { default: 20 },
};
const SAMPLE_CHANGES = {
  prompt: {
    doc: 'question that samples answer, not empty',
    absent: 'that of the first row for validation',
  },
  maxTokens: { default: 100 },
};

/** Declares every option of `sgemoe finetune`. */
export function addFinetuneOptions(command: Command): void {
  command
    .option('--data <files...>', 'files of samples: JSON lines, or a JSON array')
    .option(
      '--out <dir>',
      'run folder, made if needed; it must be new, empty or (--overwrite, --resume) a run',
    )
    .option('--overwrite', 'replace the earlier run in --out (default: refuse)')
    .option(
      '--resume',
      'go on with the run in --out from its last checkpoint, with its own options; neither model nor --data is needed (default: a new run)',
    )
    .option(
      '--config <file>',
      'JSON with options by their names, or the run.json of a run; options of the command line take precedence (default: none)',
    )
    // The argument [model], in the form in which run.json keeps it.
    .addOption(new Option('--init-from <model>').hideHelp());
  addHubOptions(command);
  command.optionsGroup('Data:');
  addTableOptions(command, CHAT_DATA_OPTIONS);
  addTableOptions(command, BETA_OPTION);
  command.optionsGroup('Training:');
  command.option(
    '--epochs <x>',
    `passes over the data, a number > 0; --steps says it in steps (default: ${DEFAULT_EPOCHS})`,
    decimal({ above: 0 }),
    DEFAULT_EPOCHS,
  );
  addTableOptions(command, TRAIN_OPTIONS, { changes: TRAIN_CHANGES });
  command.optionsGroup('Adapters, trained in place of the weights (LoRA):');
  addTableOptions(command, LORA_OPTIONS);
  command.optionsGroup('Batches, evaluation and saves:');
  addTableOptions(command, RUN_OPTIONS, {
    changes: RUN_CHANGES,
    collected: { saveInterval: { parse: saveInterval, first: undefined } },
  });
  addTableOptions(command, EARLY_STOPPING_OPTIONS);
  addTableOptions(command, SAMPLE_OPTIONS, { changes: SAMPLE_CHANGES });
  addSharingOptions(addThreadsOption(command));
}
