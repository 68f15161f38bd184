import type { Command } from 'commander';
import { SgemoeError } from '../../base/errors';
import type { SamplingOptions } from '../../sampling/options';
import { Engine } from '../../serve/engine/engine';
import { ENGINE_OPTIONS, type EngineOptions } from '../../serve/engine/options';
import type { Usage } from '../../serve/engine/types';
import type { ChatMessage } from '../../text/chatTemplate';
import { type DtypeCliOption, dtypeOption } from '../options/dtypeOption';
import { addHubOptions, checkpointPath, type HubCliOptions, MODEL_ARGUMENT } from '../options/hubOptions';
import { addAnswerOptions, answerOptions, overCheckpoint } from '../options/samplingOptions';
import { addTableOptions, fromFlags } from '../options/tableOptions';
import { ChatControl } from '../terminal/chatControl';
import { formatCount, formatRate } from '../terminal/format';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { LineReader } from '../terminal/lines';
import { UsageError } from '../terminal/usageError';

interface ChatCliOptions extends DtypeCliOption, HubCliOptions {
  system?: string;
}

/** The options of an engine that answers one conversation. */
const { contextLength, kvCacheDtype, speculateTokens, generationConfig, threads } = ENGINE_OPTIONS;
const CHAT_OPTIONS = { contextLength, kvCacheDtype, speculateTokens, generationConfig, threads };

const NOTES = `
Each line is a message; the model answers with its tokenizer's chat template, and remembers the conversation. Answers go to
stdout, everything else to stderr. When the conversation outgrows the context, its oldest messages are left out.

Lines that begin with / are commands:
  /reset          forget the conversation; the system message stays
  /system <text>  set the system message and forget the conversation; without a text, there is none
  /help           list the commands
  /exit           leave, as the end of the input does

Ctrl-C ends an answer; at the prompt, a second one leaves.

Examples:
  $ sgemoe chat SmolLM2-135M-Instruct.Q4_1.gguf
  $ sgemoe chat HuggingFaceTB/SmolLM2-135M-Instruct
  $ sgemoe chat downloads/OLMoE-1B-7B-Instruct --system "Answer in one sentence." --temperature 0.2
  $ echo "What is a matrix?" | sgemoe chat model.gguf --temperature 0
`;

const COMMANDS = '/reset, /system <text>, /help, /exit';

export function addChatCommand(program: Command, context: CliContext): void {
  const command = program
    .command('chat')
    .description('Hold a conversation with a model.')
    .argument('<model>', MODEL_ARGUMENT)
    .optionsGroup('Options:')
    .option('--system <text>', "system message (default: none, or the template's own)");
  addAnswerOptions(command);
  addHubOptions(addTableOptions(command.addOption(dtypeOption()), CHAT_OPTIONS))
    .addHelpText('after', NOTES)
    .action(async (model: string, options: ChatCliOptions) => {
      context.exitCode = await chatCommand(model, options, context.io);
    });
}

async function chatCommand(model: string, options: ChatCliOptions, io: CliIo): Promise<number> {
  const dir = await checkpointPath(model, options, io);
  const onNote = (text: string) => io.stderr.write(`${text}\n`);
  const engine = await Engine.open(dir, {
    ...fromFlags<Pick<EngineOptions, keyof typeof CHAT_OPTIONS>>(CHAT_OPTIONS, options),
    maxBatch: 1,
    dtype: options.dtype,
    onNote,
  });
  try {
    if (engine.tokenizer === null)
      throw new UsageError(`${model} has no tokenizer, so it can't be talked to.`);
    const sampling = overCheckpoint(engine.samplingDefaults, answerOptions(options));
    const chat = new Chat(engine, sampling, io, options.system);
    return await chat.run();
  } finally {
    await engine.close();
  }
}

/** A conversation: the lines of stdin against the answers of an engine. */
class Chat {
  #system: ChatMessage[];
  #messages: ChatMessage[] = [];

  constructor(
    private readonly engine: Engine,
    private readonly sampling: SamplingOptions,
    private readonly io: CliIo,
    system: string | undefined,
  ) {
    this.#system = systemMessage(system ?? '');
  }

  /** Answers line by line until the input ends. Returns the exit code. */
  async run(): Promise<number> {
    const lines = new LineReader(this.io.stdin);
    const control = new ChatControl(this.io, () => lines.close());
    if (this.io.stdin.isTTY) this.#tell(`Commands: ${COMMANDS}. Ctrl-C ends an answer.`);
    try {
      for (;;) {
        if (this.io.stdin.isTTY) this.io.stderr.write('> ');
        const line = await lines.next();
        if (line === null || line.trim() === '/exit') break;
        if (line.startsWith('/')) this.#command(line.trim());
        else if (line.trim() !== '') await control.answering((signal) => this.#answer(line, signal));
      }
    } finally {
      control.release();
      lines.close();
    }
    return control.terminated ? EXIT.interrupted : EXIT.ok;
  }

  #command(line: string): void {
    const [name] = line.split(/\s/, 1);
    const rest = line.slice(name.length).trim();
    if (name === '/system') this.#system = systemMessage(rest);
    else if (name !== '/reset' || rest !== '') {
      this.#tell(name === '/help' ? `Commands: ${COMMANDS}` : `${line} is no command: ${COMMANDS}`);
      return;
    }
    this.#messages = [];
    this.#tell('The conversation begins anew.');
  }

  /** Streams the answer to a message. What an interrupt leaves of it stays in the conversation. */
  async #answer(content: string, signal: AbortSignal): Promise<void> {
    this.#messages.push({ role: 'user', content });
    const started = performance.now();
    let [text, firstMs] = ['', 0];
    let usage: Usage | null = null;
    for await (const chunk of this.#stream(signal)) {
      if (text === '') firstMs = performance.now() - started;
      text += chunk.text;
      usage = chunk.usage ?? usage;
      this.io.stdout.write(chunk.text);
    }
    this.io.stdout.write('\n');
    if (text === '' && signal.aborted) this.#messages.pop();
    else this.#messages.push({ role: 'assistant', content: text });
    if (usage !== null) this.#tellUsage(usage, performance.now() - started - firstMs, signal.aborted);
  }

  /** The chunks of an answer to the conversation, from which the oldest messages go until it fits the context. */
  async *#stream(signal: AbortSignal) {
    for (;;) {
      const messages = [...this.#system, ...this.#messages];
      try {
        yield* this.engine.stream({ ...this.sampling, messages, signal, onAbort: 'return' });
        return;
      } catch (error) {
        // It is thrown before the first chunk.
        const isFull = error instanceof SgemoeError && error.code === 'SGEMOE_CONTEXT_FULL';
        if (!isFull || this.#messages.length === 1) {
          this.#messages.pop();
          if (!isFull) throw error;
          this.#tell(`The message is too long: ${error.message}`);
          return;
        }
        this.#messages.splice(0, 2);
        this.#tell('The context is full: the oldest messages are left out.');
      }
    }
  }

  #tellUsage({ promptTokens, completionTokens }: Usage, ms: number, stopped: boolean): void {
    const rate = completionTokens > 1 ? `, ${formatRate((completionTokens - 1) / (ms / 1000))} tokens/s` : '';
    const filled = `${formatCount(promptTokens + completionTokens)} of ${formatCount(this.engine.contextLength)}`;
    this.#tell(
      `[${completionTokens} tokens${rate}; ${filled} tokens of context${stopped ? '; stopped' : ''}]`,
    );
  }

  #tell(text: string): void {
    this.io.stderr.write(`${text}\n`);
  }
}

function systemMessage(content: string): ChatMessage[] {
  return content === '' ? [] : [{ role: 'system', content }];
}
