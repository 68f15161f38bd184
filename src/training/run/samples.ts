import { integer, type OptionTable, text } from '../../base/options';
import { DEFAULT_SEED } from '../../base/random';
import { JsonLines, keepLines } from '../../checkpoint/jsonLines';
import type { MoETransformer } from '../../model/model';
import type { Tokenizer } from '../../text/tokenizer';
import { generateText } from '../generateText';

export interface SampleOptions {
  /** Steps between samples, an integer >= 1. */
  interval: number;
  /** The text that the model continues; not empty. */
  prompt: string;
  /** Tokens of a sample, an integer >= 1. */
  maxTokens: number;
  /** Seed of the random choices, the same for every sample so that the samples of a run compare. Default 42. */
  seed?: number | undefined;
}

export type SampleText = Omit<SampleOptions, 'interval'>;

/** Flags of `sgemoe train`, whose samples have the seed of the run. */
export const SAMPLE_OPTIONS: OptionTable<SampleOptions> = {
  interval: integer(
    { min: 1 },
    {
      doc: 'steps from one sample to the next',
      cli: {
        flag: '--sample-interval <n>',
        doc: 'steps from one sample in samples.jsonl to the next',
        note: '0 is none',
        default: 0,
        kind: integer({ min: 0 }, { doc: '' }),
      },
    },
  ),
  prompt: text({
    doc: 'what samples continue, not empty',
    cli: { flag: '--sample-prompt <text>', default: '\n' },
  }),
  maxTokens: integer(
    { min: 1 },
    {
      doc: 'length of a sample, in tokens',
      cli: {
        flag: '--sample-tokens <n>',
        doc: 'length of a sample and of the one at the end, in tokens',
        note: '0 is none',
        default: 300,
        kind: integer({ min: 0 }, { doc: '' }),
      },
    },
  ),
  seed: integer({}, { doc: 'of the random choices, the same for every sample', default: DEFAULT_SEED }),
};

const TEMPERATURE = 0.8;

/** The model that generates. */
export interface Writer {
  model: MoETransformer;
  tokenizer: Tokenizer;
}

/** The model's continuation of a prompt, yielded in pieces while it is generated. */
export function sampleText(
  { model, tokenizer }: Writer,
  { prompt, maxTokens, seed }: SampleText,
  signal?: AbortSignal,
): AsyncGenerator<string, void, void> {
  const sampling = { maxTokens, temperature: TEMPERATURE, ...(seed !== undefined && { seed }) };
  return generateText(model, tokenizer, tokenizer.encode(prompt), { sampling, signal });
}

/** Appends a sample to a file every `interval` steps, as a line of JSON: { step, prompt, text }. */
export class SampleLog {
  readonly #lines: JsonLines;

  /** @throws the system's Error when the file can't be opened. */
  constructor(
    path: string,
    private readonly writer: Writer,
    private readonly options: SampleOptions,
  ) {
    this.#lines = new JsonLines(path);
  }

  async add(step: number): Promise<{ step: number; prompt: string; text: string }> {
    let text = '';
    for await (const piece of sampleText(this.writer, this.options)) text += piece;
    const sample = { step, prompt: this.options.prompt, text };
    this.#lines.append(sample);
    return sample;
  }

  flush(): void {
    this.#lines.flush();
  }

  close(): void {
    this.#lines.close();
  }
}

/** Removes the samples of steps after `stepsDone`, which the resumed run makes again. */
export async function keepSamples(path: string, stepsDone: number): Promise<void> {
  await keepLines(path, (line) => Number((line as { step?: unknown } | null)?.step) <= stepsDone);
}
