import type { Command } from 'commander';
import { SAMPLING_OPTIONS, type SamplingOptions } from '../../sampling/options';
import { Engine } from '../../serve/engine/engine';
import { ENGINE_OPTIONS, type EngineOptions } from '../../serve/engine/options';
import { HTTP_OPTIONS } from '../../serve/http/options';
import { fieldsOfSampling } from '../../serve/http/samplingFields';
import { type DtypeCliOption, dtypeOption } from '../options/dtypeOption';
import {
  addAdapterOption,
  addHubOptions,
  type HubCliOptions,
  RUNNABLE_ARGUMENT,
  runnablePath,
} from '../options/hubOptions';
import { addAnswerOptions, answerOptions, overCheckpoint } from '../options/samplingOptions';
import { addTableOptions, attributesOf, flagsOf, fromFlags } from '../options/tableOptions';
import { someText } from '../options/values';
import { Chat, type ChatAnswerer } from '../terminal/chat';
import { ChatServer } from '../terminal/chatServer';
import type { CliContext, CliIo } from '../terminal/io';
import { tellPrecision } from '../terminal/precisionNote';
import { UsageError } from '../terminal/usageError';

interface ChatCliOptions extends DtypeCliOption, HubCliOptions {
  url?: string;
  adapter?: string;
  apiKey?: string;
  system?: string;
}

/** The name of --adapter in the engine. */
const ADAPTER = 'adapter';

/** The options of an engine that answers one conversation. */
const { contextLength, kvCacheDtype, precision, speculateTokens, generationConfig, threads } = ENGINE_OPTIONS;
const CHAT_OPTIONS = { contextLength, kvCacheDtype, precision, speculateTokens, generationConfig, threads };

const NOTES = `
Each line is a message; the model answers with its tokenizer's chat template, and remembers the conversation. Answers go to
stdout, everything else to stderr. When the conversation outgrows the context, its oldest messages are left out.

Lines that begin with / are commands:
  /reset          forget the conversation; the system message stays
  /system <text>  set the system message and forget the conversation; without a text, there is none
  /help           list the commands
  /exit           leave, as the end of the input does

With --url, a server answers, such as sgemoe serve; what the command line doesn't say is left to it.

Ctrl-C ends an answer; at the prompt, a second one leaves.

Examples:
  $ sgemoe chat SmolLM2-135M-Instruct.Q4_1.gguf
  $ sgemoe chat HuggingFaceTB/SmolLM2-135M-Instruct
  $ sgemoe chat downloads/OLMoE-1B-7B-Instruct --system "Answer in one sentence." --temperature 0.2
  $ sgemoe chat runs/tuned
  $ sgemoe chat model.Q4_K_M.gguf --adapter runs/tuned
  $ sgemoe chat --url http://127.0.0.1:8000
  $ echo "What is a matrix?" | sgemoe chat model.gguf --temperature 0
`;

export function addChatCommand(program: Command, context: CliContext): void {
  const command = program
    .command('chat')
    .description('Hold a conversation with a model.')
    .argument('[model]', `${RUNNABLE_ARGUMENT}; with --url, the name of a model there`)
    .optionsGroup('Options:')
    .option(
      '--url <url>',
      "server of OpenAI's API that answers, such as http://127.0.0.1:8000 (default: a model of this machine)",
      someText,
    )
    .option(HTTP_OPTIONS.apiKeys.cli!.flag, 'key for --url (default: SGEMOE_API_KEY)', someText)
    .option('--system <text>', "system message (default: none, or the template's own)");
  addAnswerOptions(command);
  addHubOptions(addTableOptions(addAdapterOption(command).addOption(dtypeOption()), CHAT_OPTIONS))
    .addHelpText('after', NOTES)
    .action(async (model: string | undefined, options: ChatCliOptions) => {
      if (options.url !== undefined) context.exitCode = await chatWithServer(model, command, context.io);
      else context.exitCode = await chatCommand(model, options, context.io);
    });
}

async function chatCommand(model: string | undefined, options: ChatCliOptions, io: CliIo): Promise<number> {
  if (model === undefined) throw new UsageError('chat needs a model: a path, or --url for a server.');
  if (options.apiKey !== undefined) throw new UsageError('--api-key goes with --url.');
  const dir = await runnablePath(model, options, io);
  const onNote = (text: string) => io.stderr.write(`${text}\n`);
  const own = fromFlags<Pick<EngineOptions, keyof typeof CHAT_OPTIONS>>(CHAT_OPTIONS, options);
  tellPrecision(own.precision, io);
  const engine = await Engine.open(dir, {
    ...own,
    maxBatch: 1,
    dtype: options.dtype,
    adapters: options.adapter === undefined ? {} : { [ADAPTER]: options.adapter },
    onNote,
  });
  try {
    if (engine.tokenizer === null)
      throw new UsageError(`${model} has no tokenizer, so it can't be talked to.`);
    const sampling = overCheckpoint(engine.samplingDefaults, answerOptions(options));
    const answerer: ChatAnswerer = {
      contextLength: engine.contextLength,
      stream: (messages, signal) =>
        engine.stream({ ...sampling, adapter: engine.adapters[0], messages, signal, onAbort: 'return' }),
    };
    return await new Chat(answerer, io, options.system).run();
  } finally {
    await engine.close();
  }
}

/** The options that are for a model of this machine. */
const OF_ENGINE = [...attributesOf(CHAT_OPTIONS), 'adapter', 'dtype', 'revision', 'offline'];

async function chatWithServer(model: string | undefined, command: Command, io: CliIo): Promise<number> {
  const { url = '', system, apiKey } = command.opts<ChatCliOptions>();
  const isGiven = (name: string) => command.getOptionValueSource(name) === 'cli';
  const wrong = command.options.find((option) => {
    const name = option.attributeName();
    return OF_ENGINE.includes(name) && isGiven(name);
  });
  if (wrong !== undefined)
    throw new UsageError(`${wrong.long} is for a model of this machine, not for --url.`);
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new UsageError(`--url must be a URL such as http://127.0.0.1:8000, got ${url}`);
  }
  // The server's defaults apply where the command line is silent.
  const given = Object.entries(command.opts()).filter(([name]) => isGiven(name));
  const fields = requestFields(answerOptions(Object.fromEntries(given)));
  const key = apiKey ?? io.env.SGEMOE_API_KEY;
  const server = await ChatServer.open({ url, model, apiKey: key === '' ? undefined : key, fields });
  io.stderr.write(`${server.model} at ${url}\n`);
  return await new Chat(server, io, system).run();
}

/** Sampling options as fields of a request. @throws UsageError for one that a request has no field for. */
function requestFields(options: SamplingOptions): Record<string, unknown> {
  const { maxTokens, seed, topLogprobs: _, ...others } = options;
  const fields = fieldsOfSampling(others);
  if ('unknown' in fields) {
    const flag = flagsOf(SAMPLING_OPTIONS).get(fields.unknown as keyof SamplingOptions);
    throw new UsageError(`${flag} is for a model of this machine, not for --url.`);
  }
  return {
    ...fields.fields,
    ...(maxTokens !== undefined && { max_tokens: maxTokens }),
    ...(seed !== undefined && { seed: Number(seed) }),
  };
}
