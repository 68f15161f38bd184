import type { Command } from 'commander';
import type { Collectives } from '../../backend/collectives';
import { LORA_OPTIONS, type LoraOptions } from '../../config/loraOptions';
import { type Inspection, inspectCheckpoint } from '../../model/inspect';
import type { ChatMessage } from '../../text/chatMessage';
import { ChatDataset } from '../../text/chats/chatDataset';
import { CHAT_DATA_OPTIONS, PREFERENCE_DATA_OPTIONS } from '../../text/chats/options';
import { holdsPairs } from '../../text/chats/pairs';
import { PreferenceDataset } from '../../text/chats/preferenceDataset';
import type { Sample } from '../../text/chats/samples';
import { readTokenizer } from '../../text/readTokenizer';
import type { Tokenizer } from '../../text/tokenizer';
import { together } from '../../training/distributed/agreement';
import { TrainingRun } from '../../training/run/trainingRun';
import { Trainer } from '../../training/trainer';
import { addFinetuneOptions, defaultLr, type FinetuneCliOptions } from '../options/finetuneOptions';
import { checkpointPath, MODEL_ARGUMENT } from '../options/hubOptions';
import { storableOptions } from '../options/optionFiles';
import { attributesOf, fromFlags } from '../options/tableOptions';
import { describeExample } from '../terminal/chatExample';
import { formatCount, formatPercent, shellQuote } from '../terminal/format';
import { Interrupt } from '../terminal/interrupt';
import type { CliContext, CliIo } from '../terminal/io';
import { RowNotes } from '../terminal/rowNotes';
import { describeRun } from '../terminal/runSummary';
import { asUsage, UsageError } from '../terminal/usageError';
import { onRanks } from './ranks';
import {
  beginRun,
  checkData,
  completeOptions,
  finishRun,
  type KnownRunOptions,
  loadForTuning,
  recipeOf,
  resumeRun,
  showRun,
  trainConfigOf,
} from './trainingCommand';

const NOTES = `
--data has a JSON object a line, or is one JSON array of them:
  {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}   with "tools", if need be
  {"prompt": "...", "completion": "..."}
  {"text": "..."}
  {"prompt": [messages] or "...", "chosen": ..., "rejected": ...}   pairs of answers: the chosen one becomes more probable (DPO)
A file has either pairs or other rows. Conversations are rendered by the chat template of the model's tokenizer; the loss counts
what the assistant wrote. Rows that can't be used are told by line and left out. Samples share the rows of a batch without seeing each other.

All weights are trained, as float32. The run folder (--out) is a model, and has the files of a run of sgemoe train: metrics, curve,
the best weights in best/, the state that --resume goes on from. With --lora-targets only adapters are trained, beside weights that stay as
they are stored, quantised ones too; the folder then has adapter_config.json and adapter_model.safetensors, as Python's peft writes them.
chat, generate, eval and serve take it as a model, serve also beside its base (--adapter), and merge makes a whole checkpoint of both.

SIGUSR1 saves after the step. Ctrl-C (or SIGTERM) finishes the step and its evaluation, saves and ends with exit code 130.

Examples:
  $ sgemoe finetune SmolLM2-135M-Instruct.Q8_0.gguf --data chats.jsonl --out runs/tuned
  $ sgemoe finetune runs/book --data questions.jsonl --out runs/answers --epochs 10 --lr 1e-4
  $ sgemoe finetune model.Q4_K_M.gguf --data chats.jsonl --out runs/adapter --lora-targets all --gradient-checkpointing
  $ sgemoe merge model.Q4_K_M.gguf runs/adapter --out models/tuned
  $ sgemoe finetune models/tuned --data pairs.jsonl --out runs/preferred --lora-targets all
  $ sgemoe finetune --out runs/tuned --resume
  $ sgemoe chat runs/tuned
`;

const SEQ_LEN = 512;
/** That of pairs, both of whose answers stand in a row. */
const PAIR_SEQ_LEN = 1024;

type TuningData = ChatDataset | PreferenceDataset;

export function addFinetuneCommand(program: Command, context: CliContext): void {
  const command = program
    .command('finetune')
    .description('Train a model further on conversations, or on prompts with their completions.')
    .argument('[model]', `${MODEL_ARGUMENT}; with --resume, that of the run`)
    .optionsGroup('Options:');
  addFinetuneOptions(command);
  command.addHelpText('after', NOTES).action(async (model: string | undefined) => {
    if (model !== undefined) command.setOptionValueWithSource('initFrom', model, 'cli');
    context.exitCode = await onRanks(context.io, command.opts(), ({ ranks, io }) =>
      finetuneCommand(command, ranks.collectives, io),
    );
  });
}

async function finetuneCommand(command: Command, collectives: Collectives, io: CliIo): Promise<number> {
  const { options, dataset, trainer } = await together(collectives, () => prepare(command, collectives, io));
  const { out, resume, overwrite = false } = options;
  const interrupt = new Interrupt(io.signals);
  try {
    const settings = storableOptions(command);
    const recipe = { ...recipeOf(options), settings, dataset, signal: interrupt.signal };
    const run =
      trainer === null
        ? await resumeRun(options, { ...recipe, collectives })
        : await TrainingRun.start(out, { ...recipe, trainer, overwrite: overwrite || resume });
    await showRun(run, describe(run, dataset, options), io);
    const next = { command: 'finetune', say: 'Talk to it', next: `sgemoe chat ${shellQuote(out)}` };
    return await finishRun(run, options, next, io);
  } finally {
    interrupt.release();
  }
}

/** Reads the options and the data, and the model of a run that begins; null for one that goes on. */
async function prepare(command: Command, collectives: Collectives, io: CliIo) {
  const given = await completeOptions<FinetuneCliOptions>(command);
  checkLora(command);
  const goesOn = await beginRun(given, 'the folder as the model');
  const base = goesOn ? null : await openBase(given, io);
  const tokenizer = await readTokenizer(base?.path ?? given.out);
  const { dataset, options } = await openChats(command, base, tokenizer, io);
  const trainer = base && (await newTrainer(base.path, options, tokenizer, collectives));
  return { options, dataset, trainer };
}

interface Base {
  path: string;
  maxSeqLen: number;
}

/** The model that a new run starts from; says on stderr if its weights must be widened. @throws UsageError without one. */
async function openBase({ initFrom, loraTargets, ...options }: FinetuneCliOptions, io: CliIo): Promise<Base> {
  if (initFrom === undefined) throw new UsageError('finetune needs a model to train further.');
  const path = await checkpointPath(initFrom, options, io);
  const inspection = await inspectCheckpoint(path);
  const types = widened(inspection);
  if (types.length > 0 && loraTargets === undefined) {
    io.stderr.write(`${path} has weights in ${types.join(', ')}; all are trained, and saved, as float32.\n`);
  }
  return { path, maxSeqLen: inspection.config.maxSeqLen };
}

/** The types of the tensors that aren't float32. */
function widened({ tensors }: Inspection): string[] {
  return [...new Set(tensors.map(({ dtype }) => String(dtype)))].filter((dtype) => dtype !== 'F32').sort();
}

/** Reads the data, and sets the options that follow from them: row length, steps, sample. */
async function openChats(
  command: Command,
  base: Base | null,
  tokenizer: Tokenizer,
  io: CliIo,
): Promise<{ dataset: TuningData; options: KnownRunOptions & FinetuneCliOptions }> {
  const settle = (name: keyof FinetuneCliOptions, value: unknown) => {
    if (command.getOptionValue(name) === undefined) command.setOptionValueWithSource(name, value, 'default');
  };
  const { data } = command.opts<FinetuneCliOptions>();
  const pairs = await holdsPairs(data[0]);
  checkOnly(command, pairs);
  const seqLen = pairs ? PAIR_SEQ_LEN : SEQ_LEN;
  settle('seqLen', Math.min(seqLen, base?.maxSeqLen ?? seqLen));
  const given = command.opts<FinetuneCliOptions>();
  if (command.getOptionValueSource('lr') === 'default') {
    command.setOptionValueWithSource('lr', defaultLr(given.loraTargets !== undefined, pairs), 'default');
  }
  const notes = new RowNotes(io.stderr);
  const more = { tokenizer, seqLen: given.seqLen, onNote: (note: string) => notes.add(note) };
  const dataset: TuningData = pairs
    ? await PreferenceDataset.fromPaths(data, { ...fromFlags(PREFERENCE_DATA_OPTIONS, given), ...more })
    : await ChatDataset.fromPaths(data, { ...fromFlags(CHAT_DATA_OPTIONS, given), ...more });
  notes.end();
  settle('steps', Math.max(1, Math.ceil((given.epochs * dataset.rowsPerEpoch) / given.batchSize)));
  const options = command.opts<KnownRunOptions & FinetuneCliOptions>();
  const known = { ...options, samplePrompt: samplePrompt(options.samplePrompt, dataset) };
  checkData(known, dataset);
  return { dataset, options: known };
}

/** @throws UsageError for an option that only the other kind of data has. */
function checkOnly(command: Command, pairs: boolean): void {
  const isGiven = (name: string) => command.getOptionValueSource(name) === 'cli';
  if (pairs && isGiven('lossOn'))
    throw new UsageError('--loss-on is not for pairs, whose answers alone count.');
  if (!pairs && isGiven('beta')) throw new UsageError('--beta is for pairs, rows with chosen and rejected.');
}

/** The first sample of a data set's items. */
function firstSample([item]: TuningData['train']): Sample {
  return 'chosen' in item ? item.chosen : item;
}

/** The text that samples continue: a question in the model's template, or the beginning of a sample. */
function samplePrompt(question: string | undefined, { tokenizer, validation, train }: TuningData): string {
  if (question !== undefined) {
    if (!tokenizer.hasChatTemplate) return question;
    const messages: ChatMessage[] = [{ role: 'user', content: question }];
    return tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
  }
  const { ids, counts } = firstSample(validation.length > 0 ? validation : train);
  return tokenizer.decode(ids.subarray(0, Math.max(1, counts.indexOf(1))));
}

/** The adapters asked for; undefined for none. */
function loraOf({ loraTargets, ...options }: KnownRunOptions & FinetuneCliOptions): LoraOptions | undefined {
  if (loraTargets === undefined) return undefined;
  return { ...fromFlags(LORA_OPTIONS, { ...options, loraTargets }), seed: options.seed };
}

/** @throws UsageError for flags of adapters without --lora-targets. */
function checkLora(command: Command): void {
  const sourceOf = (name: string) => command.getOptionValueSource(name) ?? 'default';
  if (command.getOptionValue('loraTargets') !== undefined) return;
  // A run that goes on has stored all of its flags, and refuses others.
  if (command.getOptionValue('resume') === true) return;
  const [alone] = attributesOf(LORA_OPTIONS).filter((name) => ['cli', 'config'].includes(sourceOf(name)));
  if (alone === undefined) return;
  const flag = command.options.find((option) => option.attributeName() === alone)?.long;
  throw new UsageError(`${flag} is of adapters; --lora-targets says which matrices get one.`);
}

async function newTrainer(
  path: string,
  options: KnownRunOptions & FinetuneCliOptions,
  tokenizer: Tokenizer,
  collectives: Collectives,
): Promise<Trainer> {
  const model = await loadForTuning(path, options, tokenizer, {
    collectives,
    lora: loraOf(options),
  });
  return asUsage(() => new Trainer(model, trainConfigOf(options), { collectives }));
}

/** The lines at the head of a run, with an example of what is learnt. */
function describe(
  run: TrainingRun,
  dataset: TuningData,
  { seqLen, batchSize, steps }: KnownRunOptions,
): string {
  const rows = dataset.rowsPerEpoch;
  const isPairs = dataset instanceof PreferenceDataset;
  const inputs = dataset.trainTokens - (isPairs ? 2 : 1) * dataset.train.length;
  const what = isPairs ? `pairs (beta ${dataset.beta})` : 'samples';
  return [
    describeRun(dataset, run.trainer, run.dir),
    `Rows:    ${formatCount(dataset.train.length)} ${what} share ${formatCount(rows)} rows of ${formatCount(seqLen)} tokens ` +
      `(${formatPercent(1 - inputs / (rows * seqLen))} left free); ${formatCount(steps)} steps of ${batchSize} rows are ` +
      `${((steps * batchSize) / rows).toFixed(1)} passes over them`,
    '',
    describeExample(firstSample(dataset.train), dataset.tokenizer),
    ...(isPairs ? ['rejected:', describeExample(dataset.train[0].rejected, dataset.tokenizer)] : []),
  ].join('\n');
}
