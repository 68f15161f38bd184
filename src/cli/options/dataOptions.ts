import type { HubOptions } from '../../hf/hub/hubOptions';
import { isOfHub, modelPath } from '../../hf/hub/modelPath';
import { ByteTokenizer } from '../../text/byteTokenizer';
import type { TokenDataset } from '../../text/data';
import { TextDataset } from '../../text/dataset';
import { listTextFiles } from '../../text/files';
import { isPreparedDataset } from '../../text/prepared/header';
import { PreparedDataset } from '../../text/prepared/preparedDataset';
import { readTokenizer } from '../../text/readTokenizer';
import type { Tokenizer } from '../../text/tokenizer';
import { charactersOfFiles, trainOnFiles } from '../commands/tokenizer';
import { interruptible } from '../terminal/interrupt';
import type { CliIo } from '../terminal/io';
import { UsageError } from '../terminal/usageError';
import { whileTold } from './hubOptions';
import { requireFileOrFolder } from './inputPaths';

/** The names that --tokenizer takes beside paths. */
export const TOKENIZER_NAMES: readonly string[] = ['byte', 'char', 'bpe'];

export interface DataOptions {
  data: string[];
  /** 'byte', 'char', 'bpe', a path, a model of the hub, or the tokenizer itself. Default: 'byte', or the tokenizer of a prepared data set. */
  tokenizer?: string | Tokenizer;
  /** Vocabulary size; only for 'bpe'. */
  vocabSize?: number;
  /** Share of the text used for validation; only for text. Default 0.1. */
  validationFraction?: number;
  seqLen: number;
}

export const DEFAULT_VOCAB_SIZE = 2000;
export const DEFAULT_VALIDATION_FRACTION = 0.1;

/**
 * The tokenizer with a name or path, or that of a model of the hub.
 * @throws UsageError for a path with nothing there; SgemoeError SGEMOE_TOKENIZER_INVALID, and as `pull`.
 */
async function namedTokenizer(name: string | Tokenizer, io: CliIo): Promise<Tokenizer> {
  if (typeof name !== 'string') return name;
  if (name === 'byte') return new ByteTokenizer();
  if (await isOfHub(name)) {
    const download = (hub: HubOptions) => modelPath(name, { ...hub, tokenizerOnly: true }, io.env);
    return readTokenizer(await whileTold({}, io, download));
  }
  await requireFileOrFolder('--tokenizer', name);
  return readTokenizer(name);
}

/** The tokenizer with a name or path; 'char' is made from the text in `data`. @throws as `namedTokenizer`. */
export async function textTokenizer(
  name: string | Tokenizer,
  data: readonly string[],
  io: CliIo,
): Promise<Tokenizer> {
  if (name !== 'char') return namedTokenizer(name, io);
  const files = await listTextFiles(data);
  return interruptible(io.signals, (signal) => charactersOfFiles(files, { signal }, io));
}

/**
 * Opens the data to train on: text, which is tokenized in memory, or one prepared data set.
 * @throws UsageError for options that contradict the data.
 */
export async function openData(options: DataOptions, io: CliIo): Promise<TokenDataset> {
  const { data, seqLen, validationFraction = DEFAULT_VALIDATION_FRACTION } = options;
  if (options.vocabSize !== undefined && options.tokenizer !== 'bpe') {
    throw new UsageError(
      '--vocab-size goes with --tokenizer bpe; other tokenizers have a size of their own.',
    );
  }
  const prepared = await Promise.all(data.map(isPreparedDataset));
  if (prepared.includes(true)) return openPrepared(options, io);
  const tokenizer = await tokenizerFor(options, io);
  return TextDataset.fromPaths(data, { tokenizer, seqLen, validationFraction });
}

async function openPrepared(
  { data, tokenizer, validationFraction, seqLen }: DataOptions,
  io: CliIo,
): Promise<TokenDataset> {
  if (data.length > 1)
    throw new UsageError('--data takes one prepared data set, or files and folders with text.');
  if (tokenizer === 'bpe' || tokenizer === 'char') {
    throw new UsageError(
      `${data[0]} is tokenized already; --tokenizer ${tokenizer} needs files or folders with text.`,
    );
  }
  if (validationFraction !== undefined) {
    throw new UsageError('--validation-fraction is for text; a prepared data set has been split already.');
  }
  const given = tokenizer === undefined ? undefined : await namedTokenizer(tokenizer, io);
  return PreparedDataset.open(data[0], { tokenizer: given, seqLen });
}

async function tokenizerFor(
  { data, tokenizer = 'byte', vocabSize }: DataOptions,
  io: CliIo,
): Promise<Tokenizer> {
  if (tokenizer !== 'bpe') return textTokenizer(tokenizer, data, io);
  const files = await listTextFiles(data);
  return interruptible(io.signals, (signal) =>
    trainOnFiles(files, { vocabSize: vocabSize ?? DEFAULT_VOCAB_SIZE, signal }, io),
  );
}
