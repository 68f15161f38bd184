import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { whileLocked } from '../../checkpoint/folderLock';
import { type BpeProgress, END_OF_TEXT, trainBpe } from '../../text/bpe/trainBpe';
import { listTextFiles, readChunks, sizeOfFiles } from '../../text/files';
import type { HuggingFaceTokenizer } from '../../text/huggingFaceTokenizer';
import { cutStream } from '../../text/pieces';
import { writeTokenizer } from '../../text/readTokenizer';
import { trainCharacters } from '../../text/trainCharacters';
import { integer } from '../options/values';
import { formatCount, formatDuration, formatPercent } from '../terminal/format';
import { interruptible } from '../terminal/interrupt';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { JobProgress } from '../terminal/liveLine';
import { UsageError } from '../terminal/usageError';
import { addTextCommand, describeRead } from './textCommand';

interface TokenizerCliOptions {
  data: string[];
  vocabSize: number;
  out: string;
  specialTokens: string[];
  minFrequency: number;
  maxWords: number;
  overwrite?: boolean;
}

const NOTES = `
The tokenizer is a byte-level BPE. All 256 bytes are tokens, words are cut as GPT-2 cuts them, and the most frequent pair of
tokens is merged, among equals the pair with the lower ids, until there are --vocab-size tokens. Special tokens come first. The
same files in the same order give the same tokenizer. Files are read in pieces; memory grows with --max-words only.

--out is a folder, which gets tokenizer.json and tokenizer_config.json, or a file whose name ends in .json. Hugging Face's
libraries load them, and encode identically.

Examples:
  $ sgemoe tokenizer train --data book.txt --vocab-size 2000 --out tokenizers/book
  $ sgemoe data prepare --data book.txt --tokenizer tokenizers/book --out data/book
  $ sgemoe train --data data/book --out runs/book
`;

export function addTokenizerCommand(program: Command, context: CliContext): void {
  addTextCommand(program, {
    noun: 'tokenizer',
    verb: 'train',
    makes: 'tokenizers',
    description: 'Train a byte-level BPE tokenizer on text.',
  })
    .requiredOption(
      '--vocab-size <n>',
      'tokens of the vocabulary, special ones and the 256 bytes included, an integer >= 256 + special tokens',
      integer(256),
    )
    .requiredOption('--out <path>', 'folder, or file that ends in .json')
    .option(
      '--special-tokens <tokens...>',
      'tokens that no text merges into; the first one ends a text and stands between documents',
      [END_OF_TEXT],
    )
    .option(
      '--min-frequency <n>',
      'pairs that occur less often are not merged, an integer >= 1',
      integer(1),
      2,
    )
    .option('--max-words <n>', 'different words held in memory, an integer >= 2', integer(2), 1_000_000)
    .option('--overwrite', 'replace a tokenizer in --out (default: refuse)')
    .addHelpText('after', NOTES)
    .action(async (options: TokenizerCliOptions) => {
      context.exitCode = await tokenizerTrainCommand(options, context.io);
    });
}

async function tokenizerTrainCommand(options: TokenizerCliOptions, io: CliIo): Promise<number> {
  const { out, data, vocabSize, specialTokens, minFrequency, maxWords, overwrite } = options;
  if (!overwrite) await refuseTokenizer(out);
  const files = await listTextFiles(data);
  const bounds = { minFrequency, maxDistinctWords: maxWords };
  const onNote = (note: string) => io.stderr.write(`${note}\n`);
  const folder = out.endsWith('.json') ? dirname(out) : out;
  await whileLocked(folder, { purpose: 'tokenizer train', onNote }, () =>
    interruptible(io.signals, async (signal) => {
      // Another process may have written before the lock was ours.
      if (!overwrite) await refuseTokenizer(out);
      const tokenizer = await trainOnFiles(files, { vocabSize, specialTokens, ...bounds, signal }, io);
      await writeTokenizer(out, tokenizer);
    }),
  );
  io.stdout.write(`Saved to ${out}.\n`);
  return EXIT.ok;
}

interface TrainOnFilesOptions {
  vocabSize: number;
  specialTokens?: readonly string[];
  minFrequency?: number;
  maxDistinctWords?: number;
  signal?: AbortSignal;
}

/** Trains on files, read in pieces, and shows the progress. @throws UsageError for impossible sizes. */
export async function trainOnFiles(
  files: readonly string[],
  options: TrainOnFilesOptions,
  io: CliIo,
): Promise<HuggingFaceTokenizer> {
  const totalBytes = await sizeOfFiles(files);
  const progress = new JobProgress(io.stdout);
  const started = performance.now();
  let counted: (BpeProgress & { phase: 'count' }) | undefined;
  const onProgress = (state: BpeProgress) => {
    if (state.phase === 'count') counted = state;
    progress.update(() => describe(state, totalBytes));
  };
  try {
    const tokenizer = await trainBpe(piecesOf(files), { ...options, onProgress });
    progress.clear();
    const seconds = (performance.now() - started) / 1000;
    io.stdout.write(`${summary(tokenizer, options.vocabSize, counted, seconds)}\n`);
    return tokenizer;
  } catch (error) {
    throw error instanceof RangeError ? new UsageError(inFlags(error.message), { cause: error }) : error;
  } finally {
    progress.clear();
  }
}

/** Makes a character tokenizer from files, which are read in pieces. */
export async function charactersOfFiles(
  files: readonly string[],
  { signal }: { signal?: AbortSignal },
  io: CliIo,
): Promise<HuggingFaceTokenizer> {
  const tokenizer = await trainCharacters(piecesOf(files), { signal });
  const bytes = formatCount(await sizeOfFiles(files));
  io.stdout.write(`Tokenizer: ${formatCount(tokenizer.vocabSize)} characters from ${bytes} bytes.\n`);
  return tokenizer;
}

async function* piecesOf(files: readonly string[]): AsyncGenerator<Uint8Array, void> {
  for (const file of files) yield* cutStream(readChunks(file));
}

function describe(state: BpeProgress, totalBytes: number): string {
  if (state.phase === 'merge') {
    return `merging: ${formatCount(state.tokens)} of ${formatCount(state.vocabSize)} tokens`;
  }
  const { bytes, distinctWords } = state;
  return `counting words: ${describeRead(bytes, totalBytes)}, ${formatCount(distinctWords)} different`;
}

function summary(
  tokenizer: HuggingFaceTokenizer,
  asked: number,
  counted: (BpeProgress & { phase: 'count' }) | undefined,
  seconds: number,
): string {
  const { bytes = 0, distinctWords = 0, droppedOccurrences = 0, occurrences = 0 } = counted ?? {};
  const lines = [
    `Tokenizer: ${formatCount(tokenizer.vocabSize)} tokens from ${formatCount(bytes)} bytes, ` +
      `${formatCount(distinctWords)} different words, in ${formatDuration(seconds)}.`,
  ];
  if (tokenizer.vocabSize < asked) {
    lines.push(
      `That is fewer than ${formatCount(asked)}: no pair of tokens is left that occurs often enough.`,
    );
  }
  if (droppedOccurrences > 0) {
    const share = formatPercent(droppedOccurrences / occurrences);
    lines.push(
      `Rare words that made up ${share} of the text were dropped to stay within the bound on words.`,
    );
  }
  return lines.join('\n');
}

async function refuseTokenizer(out: string): Promise<void> {
  const path = out.endsWith('.json') ? out : `${out}/tokenizer.json`;
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  if (exists) throw new UsageError(`--out ${out} holds a tokenizer already; --overwrite replaces it.`);
}

const FLAGS: Record<string, string> = {
  vocabSize: '--vocab-size',
  specialTokens: '--special-tokens',
  minFrequency: '--min-frequency',
  maxDistinctWords: '--max-words',
};

function inFlags(message: string): string {
  return message.replace(/^trainBpe: /, '').replaceAll(/\w+/g, (word) => FLAGS[word] ?? word);
}
