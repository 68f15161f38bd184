import type { Command } from 'commander';
import { listTextFiles, sizeOfFiles } from '../../text/files';
import { checkTarget, type PrepareProgress, prepareDataset } from '../../text/prepared/prepareDataset';
import { textTokenizer } from '../options/dataOptions';
import { decimal } from '../options/values';
import { formatCount, formatDuration, shellQuote } from '../terminal/format';
import { interruptible } from '../terminal/interrupt';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { JobProgress } from '../terminal/liveLine';
import { UsageError } from '../terminal/usageError';
import { addTextCommand, describeRead } from './textCommand';

interface DataCliOptions {
  data: string[];
  tokenizer: string;
  out: string;
  validationFraction: number;
  overwrite?: boolean;
}

const NOTES = `
The folder --out gets train.bin and val.bin, token ids and nothing else (uint16 up to a vocabulary of 65,536, else uint32;
little-endian), meta.json, and the tokenizer. Documents (files) keep the order given, with the tokenizer's end-of-text token
between them; the end of the whole is for validation. A folder stands for the text files in it and below (no dot-files,
node_modules, links, binary files). Data are read and written in pieces, so memory doesn't grow with them. --out appears
whole or not at all.

Examples:
  $ sgemoe data prepare --data notes/ more.txt --tokenizer byte --out data/notes
  $ sgemoe data prepare --data book.txt --tokenizer tokenizers/book --out data/book
  $ sgemoe train --data data/book --out runs/book
`;

export function addDataCommand(program: Command, context: CliContext): void {
  addTextCommand(program, {
    noun: 'data',
    verb: 'prepare',
    makes: 'data sets',
    description: 'Tokenize text once, into files that training reads from the disk.',
  })
    .requiredOption(
      '--tokenizer <name>',
      "'byte', 'char' (the characters of the text), a tokenizer.json or a folder with one, such as a checkpoint, or a model of the hub",
    )
    .requiredOption('--out <dir>', 'folder of the data set, made if needed; new or empty')
    .option(
      '--validation-fraction <x>',
      'share of the tokens kept for validation, 0 <= x < 1; 0 is no validation',
      decimal({ min: 0, below: 1 }),
      0.1,
    )
    .option('--overwrite', 'replace a data set in --out (default: refuse)')
    .addHelpText('after', NOTES)
    .action(async (options: DataCliOptions) => {
      context.exitCode = await dataPrepareCommand(options, context.io);
    });
}

async function dataPrepareCommand(options: DataCliOptions, io: CliIo): Promise<number> {
  const { data, out, validationFraction, overwrite } = options;
  await checkTarget(out, overwrite === true).catch((cause: Error) => {
    throw new UsageError(cause.message, { cause });
  });
  const tokenizer = await textTokenizer(options.tokenizer, data, io);
  const totalBytes = await sizeOfFiles(await listTextFiles(data));
  const progress = new JobProgress(io.stdout);
  const started = performance.now();
  const onProgress = ({ bytes, tokens }: PrepareProgress) => {
    progress.update(() => `${describeRead(bytes, totalBytes)}, ${formatCount(tokens)} tokens`);
  };
  const onNote = (note: string) => io.stderr.write(`${note}\n`);
  const header = await interruptible(io.signals, (signal) =>
    prepareDataset(data, { tokenizer, out, validationFraction, overwrite, signal, onProgress, onNote }),
  ).finally(() => progress.clear());
  const { train, validation, documents, dtype } = header;
  io.stdout.write(
    `${formatCount(train.tokens)} tokens to train on, ${formatCount(validation.tokens)} to validate, of ` +
      `${formatCount(documents)} documents, as ${dtype}, in ${formatDuration((performance.now() - started) / 1000)}.\n` +
      `Saved to ${out}. Train on it:  sgemoe train --data ${shellQuote(out)} --out ...\n`,
  );
  return EXIT.ok;
}
