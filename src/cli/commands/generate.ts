import type { Command } from 'commander';
import { getKernels } from '../../backend';
import type { Distributed } from '../../backend/collectives/distributed';
import { SgemoeError } from '../../base/errors';
import type { Precision } from '../../base/precision';
import type { KvCacheDtype } from '../../base/storageTypes';
import { loadCheckpoint } from '../../checkpoint/checkpoint';
import { JsonLines } from '../../checkpoint/jsonLines';
import type { ModelConfig } from '../../config/modelConfig';
import { adapterBase, readModelTokenizer } from '../../hf/adapterBase';
import type { ExpertRanks } from '../../model/expertLayout';
import { ExpertShard } from '../../model/expertShard';
import { loadLora } from '../../model/loraFiles';
import { memoryBytes } from '../../model/memoryBytes';
import { MoETransformer } from '../../model/model';
import { checkpointSampling } from '../../sampling/checkpointSampling';
import { resolveSampling } from '../../sampling/options';
import type { SampledToken } from '../../sampling/sampler';
import { ENGINE_OPTIONS } from '../../serve/engine/options';
import { loadTokenizer } from '../../text/loadTokenizer';
import type { TextStream } from '../../text/textStream';
import type { Tokenizer } from '../../text/tokenizer';
import { generateText } from '../../training/generateText';
import { type DtypeCliOption, dtypeOption } from '../options/dtypeOption';
import { addExpertOptions, type ExpertCliOptions } from '../options/expertOptions';
import {
  addAdapterOption,
  addHubOptions,
  type HubCliOptions,
  RUNNABLE_ARGUMENT,
} from '../options/hubOptions';
import { requireOneCheckpoint } from '../options/oneCheckpoint';
import { addSamplingOptions, overCheckpoint, samplingOptions } from '../options/samplingOptions';
import { addTableOptions } from '../options/tableOptions';
import { formatRate } from '../terminal/format';
import { Interrupt } from '../terminal/interrupt';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { tellPrecision } from '../terminal/precisionNote';
import { asUsage } from '../terminal/usageError';
import { followRank0, loadOnRanks } from './expertRanks';
import { onRanks } from './ranks';

/** The options of `generate` that SAMPLING_OPTIONS lacks. */
interface GenerateCliOptions extends DtypeCliOption, HubCliOptions, ExpertCliOptions {
  prompt: string;
  adapter?: string;
  chat?: boolean;
  echo?: boolean;
  logprobs?: string;
  threads?: number;
  kvCacheDtype?: KvCacheDtype;
  precision?: Precision;
  speculate?: number;
  generationConfig: 'model' | 'ignore';
}

const { kvCacheDtype, precision, speculateTokens, generationConfig, threads } = ENGINE_OPTIONS;
const DECODER_OPTIONS = { kvCacheDtype, precision, speculateTokens, generationConfig, threads };

/** Replaces an empty prompt: a line break, after which a text may begin. */
const EMPTY_PROMPT = '\n';

const NOTES = `
The text goes to stdout as it is written, figures go to stderr. Ctrl-C ends the text early. The model sees only the last
tokens, as many as it was trained for: a longer text is written through a sliding window. The same checkpoint,
prompt, options and seed give the same text.

Examples:
  $ sgemoe generate runs/book --prompt "Once upon a time" --max-tokens 300
  $ sgemoe generate runs/book --prompt "Once" --temperature 0          # always the most probable token
  $ sgemoe generate runs/book --prompt "Q: " --stop "Q:" --min-p 0.05 --repetition-penalty 1.1
  $ sgemoe generate models/base --adapter runs/tuned --prompt "Once"
  $ sgemoe generate runs/book --prompt - --top-p 0.9 < beginning.txt > continued.txt
`;

export function addGenerateCommand(program: Command, context: CliContext): void {
  const command = program
    .command('generate')
    .description('Continue a prompt with a trained model.')
    .argument('<model>', RUNNABLE_ARGUMENT)
    .optionsGroup('Options:')
    .option('--prompt <text>', "text to continue; '-' reads stdin, '' stands for a line break", '')
    .option(
      '--chat',
      "let the model answer the prompt, put into its tokenizer's chat template (default: continue the prompt)",
    )
    .option('--echo', 'write the prompt to stdout before the text (default: only new text)');
  addSamplingOptions(command).option(
    '--logprobs <file>',
    'append a line of JSON for each token: its id, text and log-probability (default: none)',
  );
  addExpertOptions(
    addHubOptions(addTableOptions(addAdapterOption(command).addOption(dtypeOption()), DECODER_OPTIONS)),
  )
    .addHelpText('after', NOTES)
    .action(async (name: string, options: GenerateCliOptions) => {
      context.exitCode = await onRanks(context.io, options, ({ ranks, io }) =>
        generateCommand(name, options, ranks, io),
      );
    });
}

async function generateCommand(
  name: string,
  options: GenerateCliOptions,
  ranks: Distributed,
  io: CliIo,
): Promise<number> {
  if (options.threads !== undefined) getKernels().setThreads(options.threads);
  const loaded = await loadOnRanks(ranks, name, options, io, (dir, expertRanks) =>
    prepare(dir, options, expertRanks, io),
  );
  if (loaded instanceof ExpertShard) return followRank0(loaded, ranks, io);
  tellPrecision(options.precision, io);
  const exchange = loaded.model.expertExchange;
  // An error shows at the next token, too.
  const stopWaiting = exchange?.keepWaiting(() => {});
  const code = await write(loaded, options, io);
  stopWaiting?.();
  exchange?.end();
  return code;
}

interface Prepared {
  readonly model: MoETransformer;
  readonly tokenizer: Tokenizer;
  readonly ids: Int32Array;
  readonly flags: ReturnType<typeof samplingOptions>;
}

/** Reads the prompt and loads the model. */
async function prepare(
  dir: string,
  options: GenerateCliOptions,
  expertRanks: ExpertRanks | undefined,
  io: CliIo,
): Promise<Prepared> {
  const tokenizer = await readTokenizer(dir);
  const prompt = options.prompt === '-' ? await readAll(io.stdin) : new TextEncoder().encode(options.prompt);
  if (options.echo) io.stdout.write(new TextDecoder().decode(prompt));
  const ids = encodePrompt(tokenizer, prompt, options.chat ?? false);
  const flags = samplingOptions(options);
  // Such as ids beyond the vocabulary: told before the model is loaded.
  asUsage(() => resolveSampling(flags, tokenizer.vocabSize));
  const length = Math.max(1, ids.length + flags.maxTokens);
  const needs = (config: ModelConfig) =>
    memoryBytes(config, {
      mode: 'decode',
      contextLength: Math.min(length, config.maxSeqLen),
      kvCacheDtype: options.kvCacheDtype,
    });
  const model = await MoETransformer.load(dir, { needs, dtype: options.dtype, expertRanks });
  if (options.adapter !== undefined) await loadLora(options.adapter, model);
  requireOneCheckpoint(dir, model, tokenizer);
  return { model, tokenizer, ids, flags };
}

/** Writes the text to stdout and its figures to stderr. */
async function write(
  { model, tokenizer, ids, flags }: Prepared,
  options: GenerateCliOptions,
  io: CliIo,
): Promise<number> {
  const isIgnored = options.generationConfig === 'ignore';
  const sampling = overCheckpoint(isIgnored ? {} : checkpointSampling(model.generationConfig), flags);
  const log = options.logprobs === undefined ? null : new JsonLines(options.logprobs);
  const interrupt = new Interrupt(io.signals);
  const started = performance.now();
  let tokens = 0;
  const onToken = (sampled: SampledToken, text: TextStream) => {
    tokens++;
    log?.append(describe(sampled, text, tokenizer));
  };
  const writing = {
    sampling,
    kvCacheDtype: options.kvCacheDtype,
    precision: options.precision,
    speculateTokens: options.speculate,
    signal: interrupt.signal,
    onToken,
  };
  try {
    for await (const text of generateText(model, tokenizer, ids, writing)) io.stdout.write(text);
  } finally {
    interrupt.release();
    log?.close();
  }
  if (io.stdout.isTTY) io.stdout.write('\n');
  const seconds = (performance.now() - started) / 1000;
  const stopped = interrupt.aborted ? ', stopped early' : '';
  io.stderr.write(
    `${tokens} tokens in ${seconds.toFixed(2)} s, ${formatRate(tokens / seconds)} tokens/s${stopped}\n`,
  );
  return interrupt.aborted ? EXIT.interrupted : EXIT.ok;
}

/** A token as a line of --logprobs, with the text that it adds; an alternative that adds nothing is shown by its name. */
function describe({ token, logprob, top }: SampledToken, text: TextStream, tokenizer: Tokenizer): object {
  const added = (id: number) => text.peek(id).text;
  return {
    token,
    text: added(token),
    logprob,
    top: Array.from(top.tokens, (id, i) => {
      return { token: id, text: added(id) || tokenizer.decode([id]), logprob: top.logprobs[i] };
    }),
  };
}

function encodePrompt(tokenizer: Tokenizer, prompt: Uint8Array, chat: boolean): Int32Array {
  if (!chat) {
    const text = prompt.length === 0 ? EMPTY_PROMPT : prompt;
    return asUsage(() => tokenizer.encode(text, { addSpecialTokens: true }));
  }
  const messages = [{ role: 'user', content: new TextDecoder().decode(prompt) }];
  const text = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
  return asUsage(() => tokenizer.encode(text));
}

async function readTokenizer(dir: string): Promise<Tokenizer> {
  const { tensors } = await loadCheckpoint((await adapterBase(dir)) ?? dir);
  await tensors.close();
  const { tokenizer, ...beside } = await readModelTokenizer(dir);
  if (tokenizer === null) {
    throw new SgemoeError(
      'SGEMOE_TOKENIZER_INVALID',
      `${dir} has no tokenizer, so text can't be turned into the model's tokens; ` +
        'the library generates from token ids without one.',
    );
  }
  return loadTokenizer(tokenizer, beside);
}

async function readAll(stream: CliIo['stdin']): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) {
    chunks.push(typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk);
  }
  return Buffer.concat(chunks);
}
