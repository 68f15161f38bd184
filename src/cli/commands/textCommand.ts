import type { Command } from 'commander';
import { formatCount, formatPercent } from '../terminal/format';

export interface TextCommandNames {
  /** The first word of the command: 'tokenizer'. */
  noun: string;
  /** The second word: 'train'. */
  verb: string;
  /** What the noun's commands make: 'tokenizers'. */
  makes: string;
  description: string;
}

/** Declares `sgemoe <noun> <verb>`, a command that reads text files. The other options are added to what is returned. */
export function addTextCommand(program: Command, names: TextCommandNames): Command {
  const { noun, verb, makes, description } = names;
  return program
    .command(noun)
    .description(`Make ${makes}: ${noun} ${verb} --help.`)
    .command(verb)
    .description(description)
    .requiredOption('--data <paths...>', 'files or folders with text');
}

/** How much of the text has been read: '42 % of 1,000 bytes'. */
export function describeRead(bytes: number, totalBytes: number): string {
  const share = totalBytes === 0 ? 1 : Math.min(1, bytes / totalBytes);
  return `${formatPercent(share)} of ${formatCount(totalBytes)} bytes`;
}
