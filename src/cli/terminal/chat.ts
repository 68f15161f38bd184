import { SgemoeError } from '../../base/errors';
import type { ChatMessage } from '../../text/chatTemplate';
import { ChatControl } from './chatControl';
import { formatCount, formatRate } from './format';
import { type CliIo, EXIT } from './io';
import { LineReader } from './lines';

export interface ChatUsage {
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** A part of an answer; the usage comes with the last one. */
export interface ChatPiece {
  readonly text: string;
  readonly usage: ChatUsage | null;
}

/** What answers a conversation. */
export interface ChatAnswerer {
  /** Tokens that a conversation may have; null if it isn't known. */
  readonly contextLength: number | null;
  /**
   * The answer to a conversation. The signal ends it without an error. @throws before the first piece SgemoeError
   * SGEMOE_CONTEXT_FULL.
   */
  stream(messages: readonly ChatMessage[], signal: AbortSignal): AsyncIterable<ChatPiece>;
}

/** The commands of a conversation. */
const COMMANDS = '/reset, /system <text>, /help, /exit';

/** A conversation: the lines of stdin against the answers of a model. */
export class Chat {
  #system: ChatMessage[];
  #messages: ChatMessage[] = [];

  constructor(
    private readonly model: ChatAnswerer,
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
    let usage: ChatUsage | null = null;
    for await (const chunk of this.#stream(signal)) {
      if (text === '') firstMs = performance.now() - started;
      text += chunk.text;
      usage = chunk.usage ?? usage;
      this.io.stdout.write(chunk.text);
    }
    this.io.stdout.write('\n');
    const isTakenBack = this.#messages.at(-1)?.role !== 'user';
    if (isTakenBack) return;
    if (text === '' && signal.aborted) this.#messages.pop();
    else this.#messages.push({ role: 'assistant', content: text });
    if (usage !== null) this.#tellUsage(usage, performance.now() - started - firstMs, signal.aborted);
  }

  /** The chunks of an answer to the conversation, from which the oldest messages go until it fits the context. */
  async *#stream(signal: AbortSignal) {
    for (;;) {
      const messages = [...this.#system, ...this.#messages];
      try {
        yield* this.model.stream(messages, signal);
        return;
      } catch (error) {
        // It is thrown before the first chunk.
        const isFull = error instanceof SgemoeError && error.code === 'SGEMOE_CONTEXT_FULL';
        if (!isFull || this.#messages.length === 1) {
          this.#messages.pop();
          if (isFull) this.#tell(`The message is too long: ${error.message}`);
          else if (this.#isPassing(error)) this.#tell(error.message);
          else throw error;
          return;
        }
        this.#messages.splice(0, 2);
        this.#tell('The context is full: the oldest messages are left out.');
      }
    }
  }

  /** Whether an error leaves the conversation be: a server may be there again later, and someone can ask again. */
  #isPassing(error: unknown): error is SgemoeError {
    return this.io.stdin.isTTY === true && error instanceof SgemoeError && error.code === 'SGEMOE_SERVER';
  }

  #tellUsage({ promptTokens, completionTokens }: ChatUsage, ms: number, stopped: boolean): void {
    const rate = completionTokens > 1 ? `, ${formatRate((completionTokens - 1) / (ms / 1000))} tokens/s` : '';
    const { contextLength } = this.model;
    const room = contextLength === null ? '' : ` of ${formatCount(contextLength)}`;
    const filled = `${formatCount(promptTokens + completionTokens)}${room} tokens of context`;
    this.#tell(`[${completionTokens} tokens${rate}; ${filled}${stopped ? '; stopped' : ''}]`);
  }

  #tell(text: string): void {
    this.io.stderr.write(`${text}\n`);
  }
}

function systemMessage(content: string): ChatMessage[] {
  return content === '' ? [] : [{ role: 'system', content }];
}
