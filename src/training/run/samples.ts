import { JsonLines, keepLines } from '../../checkpoint/jsonLines';
import { Interrupt } from '../../cli/terminal/interrupt';
import type { CliIo } from '../../cli/terminal/io';
import { UsageError } from '../../cli/terminal/usageError';
import { writeText } from '../../cli/terminal/writeText';
import type { MoETransformer } from '../../model/model';
import type { Tokenizer } from '../../text/tokenizer';

export interface SampleOptions {
  /** What the model continues; not empty. */
  prompt: string;
  /** Tokens of a sample. */
  maxTokens: number;
  /** Of the random choices; every sample starts with it, so that samples of a run compare. */
  seed: number;
}

const TEMPERATURE = 0.8;

/** Which model writes. */
interface Writer {
  model: MoETransformer;
  tokenizer: Tokenizer;
}

/** Appends a sample now and then to a file: one line of JSON each, { step, prompt, text }. */
export class SampleLog {
  readonly #lines: JsonLines;

  /** @throws Error of the system when the file can't be opened. */
  constructor(
    path: string,
    private readonly writer: Writer,
    private readonly options: SampleOptions & { interval: number },
  ) {
    this.#lines = new JsonLines(path);
  }

  isDue(stepsDone: number): boolean {
    return stepsDone % this.options.interval === 0;
  }

  async add(step: number): Promise<void> {
    let text = '';
    const write = (piece: string) => {
      text += piece;
    };
    await continuePrompt(this.writer, this.options, { write });
    this.#lines.append({ step, prompt: this.options.prompt, text });
  }

  flush(): void {
    this.#lines.flush();
  }

  close(): void {
    this.#lines.close();
  }
}

/**
 * Of a prompt that nothing can be written after: told before the training that the first sample would end.
 * @throws UsageError when it has no tokens; as `encode` when the tokenizer can't encode it.
 */
export function checkPrompt(prompt: string, tokenizer: Tokenizer): void {
  if (tokenizer.encode(prompt).length > 0) return;
  throw new UsageError(
    `--sample-prompt ${JSON.stringify(prompt)} has no tokens in this tokenizer; give another, or --sample-tokens 0.`,
  );
}

/** Removes the samples of steps after `stepsDone`, which a run that goes on there makes again. */
export async function keepSamples(path: string, stepsDone: number): Promise<void> {
  await keepLines(path, (line) => Number((line as { step?: unknown } | null)?.step) <= stepsDone);
}

/** Writes a sample to stdout while it is generated; an interrupt ends it. */
export async function showSample(writer: Writer, options: SampleOptions, io: CliIo): Promise<void> {
  const interrupt = new Interrupt(io.signals);
  const write = (text: string) => io.stdout.write(text);
  await continuePrompt(writer, options, { write, signal: interrupt.signal }).finally(() =>
    interrupt.release(),
  );
  io.stdout.write('\n');
}

async function continuePrompt(
  { model, tokenizer }: Writer,
  { prompt, maxTokens, seed }: SampleOptions,
  to: { write(text: string): void; signal?: AbortSignal },
): Promise<void> {
  const sampling = { maxTokens, temperature: TEMPERATURE, seed };
  await writeText(model, tokenizer, tokenizer.encode(prompt), { sampling, ...to });
}
