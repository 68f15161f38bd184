import { type Command, InvalidArgumentError } from 'commander';
import { SAMPLING_OPTIONS, type SamplingOptions } from '../../sampling/options';
import { addTableOptions, fromFlags } from './tableOptions';
import { integer } from './values';

/** Adds the flags of SamplingOptions, which say how tokens are chosen and where the text ends. */
export function addSamplingOptions(command: Command): Command {
  return addTableOptions(command, SAMPLING_OPTIONS, {
    collected: {
      logitBias: { parse: addBias, first: new Map<number, number>() },
      stop: { parse: collect((text) => text), first: [] },
      stopTokens: { parse: collect(integer(0)), first: [] },
    },
  });
}

/** Turns the flags into options of the library. */
export function samplingOptions(flags: object): SamplingOptions & { maxTokens: number } {
  return fromFlags(SAMPLING_OPTIONS, flags) as SamplingOptions & { maxTokens: number };
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
