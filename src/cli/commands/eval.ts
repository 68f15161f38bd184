import { type Command, Option } from 'commander';
import { getKernels } from '../../backend';
import type { Collectives } from '../../backend/collectives';
import type { Precision } from '../../base/precision';
import type { ModelConfig } from '../../config/modelConfig';
import { loadLora } from '../../model/loraFiles';
import { memoryBytes } from '../../model/memoryBytes';
import { MoETransformer } from '../../model/model';
import type { BatchOptions, Split, TokenDataset } from '../../text/data';
import { TextDataset } from '../../text/dataset';
import { isPreparedDataset } from '../../text/prepared/header';
import { PreparedDataset } from '../../text/prepared/preparedDataset';
import type { Tokenizer } from '../../text/tokenizer';
import { together } from '../../training/distributed/agreement';
import {
  evaluateBatches,
  requireScorable,
  scoringWindows,
  type TextEvalResult,
  WINDOW_OPTIONS,
} from '../../training/evaluateText';
import { DEFAULT_VALIDATION_FRACTION } from '../options/dataOptions';
import { type DtypeCliOption, dtypeOption } from '../options/dtypeOption';
import {
  addSharingOptions,
  inExpertFlags,
  type SharingCliOptions,
  sharedExperts,
} from '../options/expertOptions';
import {
  addAdapterOption,
  addHubOptions,
  type HubCliOptions,
  RUNNABLE_ARGUMENT,
  runnablePath,
} from '../options/hubOptions';
import { tokenizerOf } from '../options/modelTokenizer';
import { requireOneCheckpoint } from '../options/oneCheckpoint';
import { addTableOptions, flagsOf } from '../options/tableOptions';
import { addThreadsOption } from '../options/threads';
import { decimal } from '../options/values';
import { formatCount, formatDuration, formatPercent, formatRate } from '../terminal/format';
import { interruptible } from '../terminal/interrupt';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { JobProgress } from '../terminal/liveLine';
import { tellPrecision } from '../terminal/precisionNote';
import { asUsage, UsageError, usageOf } from '../terminal/usageError';
import { onRanks } from './ranks';

interface EvalCliOptions extends DtypeCliOption, HubCliOptions, SharingCliOptions {
  data: string[];
  adapter?: string;
  split?: Split;
  validationFraction?: number;
  seqLen?: number;
  stride?: number;
  batchSize?: number;
  precision?: Precision;
  threads?: number;
  json?: boolean;
}

const NOTES = `
A window slides over the text, and every token after the first is scored once: the first window scores all of its tokens, each
further one its last --stride. So a token has at least --seq-len minus --stride tokens of context, where the text has them. A
smaller stride gives more context, a lower loss, and takes seq-len / stride times the work; --stride equal to --seq-len gives
the validation loss of training. Losses are in nats per token; bits per byte of text compare between tokenizers.

Files and folders are joined as in training. Without --split the whole text is scored; of a prepared data set the validation
split, or the training split if it has no other.

Examples:
  $ sgemoe eval runs/book --data other.txt
  $ sgemoe eval runs/book/best --data book.txt --split validation --stride 16
  $ sgemoe eval models/base --adapter runs/tuned --data other.txt
  $ sgemoe eval runs/book --data data/book --json
`;

export function addEvalCommand(program: Command, context: CliContext): void {
  const command = program
    .command('eval')
    .description('Tell how well a model predicts a text: loss, perplexity, bits per byte.')
    .argument('<model>', RUNNABLE_ARGUMENT)
    .requiredOption('--data <paths...>', 'files or folders with text, or one prepared data set')
    .addOption(
      new Option('--split <name>', 'score only this part (default: the whole text)').choices([
        'train',
        'validation',
      ]),
    )
    .option(
      '--validation-fraction <x>',
      `share at the end of the text that --split counts as validation, 0 < x < 1 (default: ${DEFAULT_VALIDATION_FRACTION})`,
      decimal({ above: 0, below: 1 }),
    );
  addTableOptions(command, WINDOW_OPTIONS);
  addHubOptions(addSharingOptions(addThreadsOption(addAdapterOption(command).addOption(dtypeOption()))))
    .option('--json', 'print one JSON object (default: lines)')
    .addHelpText('after', NOTES)
    .action(async (name: string, options: EvalCliOptions) => {
      context.exitCode = await onRanks(context.io, options, async ({ ranks, io }) => {
        await evalCommand(name, options, ranks.collectives, io);
        return EXIT.ok;
      });
    });
}

type Windows = BatchOptions & { stride: number };

async function evalCommand(
  name: string,
  options: EvalCliOptions,
  collectives: Collectives,
  io: CliIo,
): Promise<void> {
  const { model, tokenizer, dataset, windows, batches, tokens } = await together(collectives, () =>
    prepare(name, options, collectives, io),
  );
  tellPrecision(options.precision, io);
  const progress = new JobProgress(io.stderr);
  const started = performance.now();
  const onProgress = (scored: number) =>
    progress.update(() => `${formatPercent(scored / (tokens - 1))} of ${formatCount(tokens - 1)} tokens`);
  const result = await interruptible(io.signals, (signal) =>
    evaluateBatches(model, batches, {
      tokenizer,
      precision: options.precision,
      signal,
      onProgress,
      collectives,
    }),
  ).finally(() => progress.clear());
  const seconds = (performance.now() - started) / 1000;
  const told = { ...result, ...windows, files: dataset.files, seconds };
  io.stdout.write(options.json ? `${JSON.stringify(told, null, 2)}\n` : describe(result, windows, seconds));
}

/** Loads the model and opens the text. */
async function prepare(name: string, options: EvalCliOptions, collectives: Collectives, io: CliIo) {
  if (options.threads !== undefined) getKernels().setThreads(options.threads);
  const dir = await runnablePath(name, options, io);
  const tokenizer = await tokenizerOf(dir);
  const { dataset, split, tokens } = await openSplit(options, tokenizer);
  requireScorable(tokens);
  const windowsOf = (config: ModelConfig) => asUsage(() => scoringWindows({ config }, options), inFlags);
  const needs = (config: ModelConfig) => {
    const { batchSize: batch, seqLen: seq } = windowsOf(config);
    const { size: ranks } = collectives;
    return memoryBytes(config, { mode: 'loss', batch, seq, ranks, expertParallel: options.expertParallel });
  };
  const expertRanks = sharedExperts(options, collectives);
  const loading = MoETransformer.load(dir, { needs, dtype: options.dtype, expertRanks });
  const model = await (expertRanks ? usageOf(loading, inExpertFlags) : loading);
  if (options.adapter !== undefined) await loadLora(options.adapter, model);
  requireOneCheckpoint(dir, model, tokenizer);
  const windows = windowsOf(model.config);
  const batches = asUsage(() => dataset.batchesInOrder(split, windows), inFlags);
  return { model, tokenizer, dataset, windows, batches, tokens };
}

async function openSplit(
  { data, split, validationFraction }: EvalCliOptions,
  tokenizer: Tokenizer,
): Promise<{ dataset: TokenDataset; split: Split; tokens: number }> {
  const prepared = (await Promise.all(data.map(isPreparedDataset))).includes(true);
  if (prepared && data.length > 1) {
    throw new UsageError('--data takes one prepared data set, or files and folders with text.');
  }
  if (validationFraction !== undefined && (prepared || split === undefined)) {
    throw new UsageError(
      '--validation-fraction goes with --split and text; a prepared data set has been split already.',
    );
  }
  const fraction = split === undefined ? 0 : (validationFraction ?? DEFAULT_VALIDATION_FRACTION);
  const dataset = prepared
    ? await PreparedDataset.open(data[0], { tokenizer })
    : await TextDataset.fromPaths(data, { tokenizer, validationFraction: fraction });
  const chosen = split ?? (dataset.validationTokens > 0 ? 'validation' : 'train');
  const tokens = chosen === 'train' ? dataset.trainTokens : dataset.validationTokens;
  return { dataset, split: chosen, tokens };
}

function describe(result: TextEvalResult, { seqLen, stride }: Windows, seconds: number): string {
  const { loss, perplexity, bitsPerByte, countedTokens, countedBytes } = result;
  const rows: [string, string][] = [
    ['loss', `${loss.toFixed(4)} nats per token`],
    ['perplexity', perplexity.toPrecision(5)],
    ['bits per byte', bitsPerByte.toFixed(4)],
    ['scored', `${formatCount(countedTokens)} tokens, ${formatCount(countedBytes)} bytes of text`],
    ['windows', `${formatCount(seqLen)} tokens, ${formatCount(stride)} apart`],
    ['time', `${formatDuration(seconds)}, ${formatRate(countedTokens / seconds)} tokens/s`],
  ];
  return rows.map(([label, value]) => `${label.padEnd(15)}${value}\n`).join('');
}

const FLAGS = flagsOf(WINDOW_OPTIONS);

function inFlags(message: string): string {
  return message.replaceAll(/\w+/g, (word) => FLAGS.get(word) ?? word);
}
