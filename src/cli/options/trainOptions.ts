import { type Command, Option } from 'commander';
import {
  DECAY_EXCLUSIONS,
  DEFAULT_TRAIN_CONFIG,
  type DecayExclusion,
  SCHEDULES,
  type Schedule,
  SMALLEST_EPS,
} from '../../config/trainConfig';
import type { SaveInterval } from '../../training/run/saveSchedule';
import { DEFAULT_MAX_SKIPPED_STEPS } from '../../training/skipLimit';
import { DEFAULT_VOCAB_SIZE } from './dataOptions';
import { DEFAULT_RECIPE, DEFAULT_SIZES, type ModelCliOptions } from './recipe';
import { decimal, integer, saveInterval, someText } from './values';

export interface TrainCliOptions extends ModelCliOptions {
  /** Given, unless the run is resumed from a file that should name them. */
  data: string[];
  out: string;
  overwrite?: boolean;
  resume?: boolean;
  initFrom?: string;
  config?: string;
  seqLen: number;
  batchSize: number;
  steps: number;
  lr: number;
  warmup?: number;
  weightDecay: number;
  weightDecayExclude?: DecayExclusion[];
  schedule: Schedule;
  minLrRatio: number;
  beta1: number;
  beta2: number;
  eps: number;
  gradClip: number;
  auxLoss: number;
  zLoss: number;
  routerBiasUpdateRate: number;
  gradAccumulation: number;
  gradientCheckpointing?: boolean;
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
        'options of the command line come first (default: none)',
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
  const sizes = DEFAULT_SIZES;
  const option = (flags: string, meaning: string, value: number) =>
    command.option(flags, `${meaning}, an integer >= 1 (default: ${value}, or the preset's)`, integer(1));
  command
    .optionsGroup('Model:')
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
  command
    .addOption(
      new Option(
        '--qk-norm <kind>',
        'RMSNorm of queries and keys: of each head (head), or of all heads at once (full); steadies high learning ' +
          'rates (default: none)',
      ).choices(['none', 'head', 'full']),
    )
    .option(
      '--embedding-multiplier <x>',
      'what embeddings are multiplied by, a number > 0; more makes the token weigh more in the first blocks (default: 1)',
      decimal({ above: 0 }),
    );
}

function addRecipeOptions(command: Command): void {
  const recipe = DEFAULT_RECIPE;
  const defaults = DEFAULT_TRAIN_CONFIG;
  const positive = decimal({ min: 0 });
  const share = decimal({ min: 0, below: 1 });
  command
    .optionsGroup('Training:')
    .option('--seq-len <n>', 'tokens in a sequence, an integer >= 1', integer(1), recipe.seqLen)
    .option('--batch-size <n>', 'sequences in a step, an integer >= 1', integer(1), recipe.batchSize)
    .option('--steps <n>', 'steps to make, an integer >= 1', integer(1), recipe.steps)
    .option('--lr <x>', 'highest learning rate, a number >= 0, reached after the warmup', positive, recipe.lr)
    .option(
      '--warmup <n>',
      'steps of rising learning rate, an integer >= 0 (default: a tenth of --steps, at most 100)',
      integer(0),
    )
    .addOption(
      new Option('--schedule <name>', 'how the learning rate goes from the warmup to --steps')
        .choices(SCHEDULES)
        .default(defaults.schedule),
    )
    .option(
      '--min-lr-ratio <x>',
      'share of --lr that cosine and linear come down to, in 0..1',
      decimal({ min: 0, max: 1 }),
      defaults.minLrRatio,
    )
    .option('--weight-decay <x>', 'of AdamW, decoupled, a number >= 0', positive, recipe.weightDecay)
    .addOption(
      new Option(
        '--weight-decay-exclude <parts...>',
        'what does not decay: norms, embeddings, biases (default: everything decays)',
      ).choices(DECAY_EXCLUSIONS),
    )
    .option('--beta1 <x>', "decay of AdamW's first moment, 0 <= x < 1", share, defaults.beta1)
    .option('--beta2 <x>', "decay of AdamW's second moment, 0 <= x < 1", share, defaults.beta2)
    .option(
      '--eps <x>',
      "added to the root of AdamW's second moment, a number >= 1.2e-38",
      decimal({ min: SMALLEST_EPS }),
      defaults.eps,
    )
    .option(
      '--grad-clip <x>',
      'largest gradient norm, a number >= 0; 0 is no limit',
      positive,
      recipe.gradClip,
    )
    .option('--aux-loss <x>', "weight of the experts' balance loss, a number >= 0", positive, recipe.auxLoss)
    .option('--z-loss <x>', "weight of the router's z-loss, a number >= 0; 0 is off", positive, 0)
    .option(
      '--router-bias-update-rate <x>',
      'after each step, move the bias by which experts are chosen this far towards an even load (1e-3 is usual), instead of ' +
        'or beside --aux-loss; a number >= 0, 0 is off',
      positive,
      0,
    )
    .option(
      '--grad-accumulation <n>',
      'parts that a batch is computed in, to save memory, in 1..batch-size',
      integer(1),
      1,
    )
    .option(
      '--gradient-checkpointing',
      "keep only each block's input for the backward and compute the rest again: less memory, more time, the same results " +
        '(default: keep all)',
    )
    .option(
      '--max-skipped-steps <n>',
      'end the run as diverged after so many steps in a row whose loss or gradient is not finite, an integer >= 0; 0 is never',
      integer(0),
      DEFAULT_MAX_SKIPPED_STEPS,
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
      '--early-stopping <n>',
      'end after so many evaluations in a row without a lower validation loss, an integer >= 0; 0 is off',
      integer(0),
      0,
    )
    .option(
      '--early-stopping-min-delta <x>',
      'what a validation loss must fall by to count as lower, in nats, a number >= 0',
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
      'length of a sample and of the one at the end, in tokens, an integer >= 0; 0 is none',
      integer(0),
      300,
    )
    .option(
      '--sample-interval <n>',
      'steps from one sample in samples.jsonl to the next, an integer >= 0; 0 is none',
      integer(0),
      0,
    )
    .option('--sample-prompt <text>', 'what samples continue, not empty', someText, '\n');
}
