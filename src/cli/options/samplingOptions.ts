import { type Command, InvalidArgumentError } from 'commander';
import type { SamplingOptions } from '../../sampling/options';
import { decimal, integer } from './values';

/** What the options of `addSamplingOptions` are parsed to. */
export interface SamplingCliOptions {
  maxTokens: number;
  temperature: number;
  topK?: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  logitBias: Map<number, number>;
  stop: string[];
  stopToken: number[];
  seed: number;
  topLogprobs: number;
}

/** Adds the options that say how tokens are chosen and where the text ends: SamplingOptions. */
export function addSamplingOptions(command: Command): Command {
  return addFilters(command)
    .option(
      '--repetition-penalty <r>',
      'makes tokens of the prompt and the text less probable, a number > 0; 1 is none',
      decimal({ above: 0 }),
      1,
    )
    .option(
      '--presence-penalty <a>',
      'subtracted from the logits of tokens that the text has; 0 is none',
      decimal({}),
      0,
    )
    .option('--frequency-penalty <b>', 'subtracted once for each time; 0 is none', decimal({}), 0)
    .option(
      '--logit-bias <id=b>',
      'adds b to the logit of a token; -Infinity forbids it; may be given several times',
      addBias,
      new Map<number, number>(),
    )
    .option(
      '--stop <text>',
      'ends the text in front of these words; may be given several times',
      collect((text: string) => text),
      [],
    )
    .option('--stop-token <id>', 'ends the text; may be given several times', collect(integer(0)), [])
    .option(
      '--seed <n>',
      'of the random choices, an integer in 0..2^53-1',
      integer(0, Number.MAX_SAFE_INTEGER),
      42,
    );
}

/** The options of the library. */
export function samplingOptions(options: SamplingCliOptions): SamplingOptions & { maxTokens: number } {
  const { maxTokens, temperature, topK, topP, minP, seed, stop, stopToken, logitBias, topLogprobs } = options;
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = options;
  return {
    ...{ maxTokens, temperature, topK, topP, minP, seed, stop, stopTokens: stopToken, logitBias },
    ...{ repetitionPenalty, presencePenalty, frequencyPenalty, topLogprobs },
  };
}

function addFilters(command: Command): Command {
  return command
    .option(
      '--max-tokens <n>',
      'new tokens (bytes, with the byte tokenizer), an integer >= 0; an end-of-text token ends the text before',
      integer(0),
      256,
    )
    .option(
      '--temperature <t>',
      'a number >= 0: below 1 plays safe, above 1 varies, 0 always takes the most probable token',
      decimal({ min: 0 }),
      0.8,
    )
    .option(
      '--top-k <k>',
      'draw from the k most probable tokens only, an integer >= 1 (default: all)',
      integer(1),
    )
    .option(
      '--top-p <p>',
      'draw from the most probable tokens that together have probability p, 0 < p <= 1; 1 is all',
      decimal({ above: 0, max: 1 }),
      1,
    )
    .option(
      '--min-p <p>',
      'draw from tokens at least p times as probable as the best one, 0 <= p <= 1; 0 is all',
      decimal({ min: 0, max: 1 }),
      0,
    );
}

function addBias(text: string, biases: Map<number, number>): Map<number, number> {
  const [, id, bias] = /^(\d+)=(-Infinity|[-+\d.e]+)$/i.exec(text) ?? [];
  if (id === undefined || Number.isNaN(Number(bias))) {
    throw new InvalidArgumentError("It must be a token id, '=' and a number, such as 13=-5.");
  }
  return new Map(biases).set(Number(id), Number(bias));
}

function collect<T>(parse: (text: string) => T): (text: string, values: T[]) => T[] {
  return (text, values) => [...values, parse(text)];
}
