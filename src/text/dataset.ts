import type { Batch } from '../batch';
import { checkOptions } from '../checks';
import { SgemoeError } from '../errors';
import { DEFAULT_SEED, Lcg64 } from '../random';
import { readTextFiles } from './files';
import { ByteTokenizer, type Tokenizer } from './tokenizer';

export interface TextDatasetOptions {
  /** Default: a new `ByteTokenizer`. */
  tokenizer?: Tokenizer;
  /** Share of the tokens, at the end of the stream, that is kept for validation. In [0, 1); default 0.1. */
  validationFraction?: number;
  /** When given, the splits are checked for this window length at once instead of at the first batch. */
  seqLen?: number;
}

export interface TextFilesOptions extends TextDatasetOptions {
  /**
   * Endings such as '.md' that files found in a folder must have. Default: any. Named files are always read.
   */
  extensions?: readonly string[];
}

/** Token ids in the smallest type that holds the vocabulary. */
export type TokenArray = Uint8Array | Uint16Array | Int32Array;

export interface BatchOptions {
  batchSize: number;
  seqLen: number;
}

export interface TrainBatchOptions extends BatchOptions {
  /** Of the window starts, see `Lcg64`. Default 42. */
  seed?: number | bigint;
}

export interface ValidationBatchOptions extends BatchOptions {
  /** Stop after so many batches. Default: the whole validation split. */
  maxBatches?: number;
}

/**
 * A text as one stream of tokens: its first part to train on, its end to validate on.
 *
 * The documents (files) are tokenized one by one and joined, in order, with the tokens of one newline between
 * them; empty documents are left out. Bytes are taken as they are: no normalisation, no line-end conversion.
 * Of the N tokens of the stream the last floor(N * validationFraction) are the validation split, whatever
 * document they fall into.
 */
export class TextDataset {
  readonly tokenizer: Tokenizer;
  readonly train: TokenArray;
  readonly validation: TokenArray;
  /** The files that were read, in order; empty for `fromText`. */
  readonly files: readonly string[];

  private constructor(
    documents: readonly (string | Uint8Array)[],
    files: string[],
    options: TextDatasetOptions,
  ) {
    const fraction = options.validationFraction ?? 0.1;
    if (!(fraction >= 0 && fraction < 1)) {
      throw new RangeError(`validationFraction must be in [0, 1), got ${String(fraction)}`);
    }
    this.tokenizer = options.tokenizer ?? new ByteTokenizer();
    this.files = files;
    const tokens = joinDocuments(documents, this.tokenizer);
    const trainLength = tokens.length - Math.floor(tokens.length * fraction);
    this.train = tokens.subarray(0, trainLength);
    this.validation = tokens.subarray(trainLength);
    if (options.seqLen === undefined) return;
    checkCount('seqLen', options.seqLen);
    this.requireTokens('training', this.train, options.seqLen + 1);
    if (fraction > 0) this.requireTokens('validation', this.validation, 2);
  }

  /**
   * Reads one or many files or folders; see `readTextFiles` for what a folder contributes and in which order.
   * @throws SgemoeError SGEMOE_DATA_NOT_FOUND for a path that is missing, unreadable, or a folder without
   * text; SGEMOE_DATA_TOO_SHORT when `seqLen` is given and a split is too short for it.
   */
  static async fromPaths(
    paths: string | readonly string[],
    options: TextFilesOptions = {},
  ): Promise<TextDataset> {
    const list = typeof paths === 'string' ? [paths] : paths;
    if (list.length === 0) throw new RangeError('paths must name at least one file or folder, got none');
    const files = await readTextFiles(list, options.extensions);
    return new TextDataset(
      files.map((file) => file.bytes),
      files.map((file) => file.path),
      options,
    );
  }

  /** One document from memory. @throws SgemoeError SGEMOE_DATA_TOO_SHORT as `fromPaths`. */
  static fromText(text: string | Uint8Array, options: TextDatasetOptions = {}): TextDataset {
    return new TextDataset([text], [], options);
  }

  /**
   * An endless sequence of training batches: windows of seqLen + 1 tokens whose starts are drawn uniformly,
   * with replacement, from all that fit into the training split. Each batch has arrays of its own, which stay
   * as they are when the next one is drawn.
   * @throws SgemoeError SGEMOE_DATA_TOO_SHORT when the training split is shorter than one window.
   */
  batches(options: TrainBatchOptions): WindowSampler {
    checkOptions('batches', options, ['batchSize', 'seqLen', 'seed']);
    const { batchSize, seqLen, seed = DEFAULT_SEED } = options;
    checkCount('batchSize', batchSize);
    checkCount('seqLen', seqLen);
    this.requireTokens('training', this.train, seqLen + 1);
    return new WindowSampler(this.train, batchSize, seqLen, seed);
  }

  /**
   * The validation split in order: windows side by side, in which every token but the first is a target
   * exactly once. Batches have batchSize windows; the last of the whole windows may come as a smaller batch,
   * and what is left after them as a [1, rest] batch. So a mean over batches must weigh them by their tokens.
   * @throws SgemoeError SGEMOE_DATA_TOO_SHORT when the validation split has fewer than 2 tokens.
   */
  validationBatches(options: ValidationBatchOptions): Generator<Batch, void> {
    checkOptions('validationBatches', options, ['batchSize', 'seqLen', 'maxBatches']);
    const { batchSize, seqLen, maxBatches = Infinity } = options;
    checkCount('batchSize', batchSize);
    checkCount('seqLen', seqLen);
    if (maxBatches !== Infinity) checkCount('maxBatches', maxBatches);
    this.requireTokens('validation', this.validation, 2);
    return windowsInOrder(this.validation, batchSize, seqLen, maxBatches);
  }

  private requireTokens(split: string, tokens: TokenArray, needed: number): void {
    if (tokens.length >= needed) return;
    const total = this.train.length + this.validation.length;
    throw new SgemoeError(
      'SGEMOE_DATA_TOO_SHORT',
      `The ${split} split has ${tokens.length} of the text's ${total} tokens, but ${needed} are needed ` +
        'for one window and its targets. Give more text, a shorter sequence length or another ' +
        'validation fraction.',
    );
  }
}

/**
 * Draws training windows for ever. Its state is the generator's: set it to go on exactly where another stood.
 */
export class WindowSampler implements IterableIterator<Batch> {
  private readonly random: Lcg64;

  constructor(
    private readonly tokens: TokenArray,
    private readonly batchSize: number,
    private readonly seqLen: number,
    seed: number | bigint,
  ) {
    this.random = new Lcg64(seed);
  }

  next(): { done: false; value: Batch } {
    const { tokens, batchSize, seqLen } = this;
    const batch = emptyBatch(batchSize, seqLen);
    for (let row = 0; row < batchSize; row++) {
      copyWindow(tokens, this.random.nextInt(tokens.length - seqLen), batch, row);
    }
    return { done: false, value: batch };
  }

  [Symbol.iterator](): this {
    return this;
  }

  getState(): bigint {
    return this.random.getState();
  }

  /** @throws RangeError unless `state` is a bigint in [0, 2^64). */
  setState(state: bigint): void {
    this.random.setState(state);
  }
}

function* windowsInOrder(
  tokens: TokenArray,
  batchSize: number,
  seqLen: number,
  maxBatches: number,
): Generator<Batch, void> {
  const targets = tokens.length - 1;
  let start = 0;
  for (let drawn = 0; start < targets && drawn < maxBatches; drawn++) {
    const wholeWindows = Math.floor((targets - start) / seqLen);
    const batch =
      wholeWindows > 0
        ? emptyBatch(Math.min(batchSize, wholeWindows), seqLen)
        : emptyBatch(1, targets - start);
    for (let row = 0; row < batch.batch; row++, start += batch.seqLen) copyWindow(tokens, start, batch, row);
    yield batch;
  }
}

function emptyBatch(batch: number, seqLen: number): Batch {
  return { ids: new Int32Array(batch * seqLen), targets: new Int32Array(batch * seqLen), batch, seqLen };
}

function copyWindow(tokens: TokenArray, start: number, { ids, targets, seqLen }: Batch, row: number): void {
  ids.set(tokens.subarray(start, start + seqLen), row * seqLen);
  targets.set(tokens.subarray(start + 1, start + 1 + seqLen), row * seqLen);
}

function joinDocuments(documents: readonly (string | Uint8Array)[], tokenizer: Tokenizer): TokenArray {
  const separator = compact(tokenizer.encode('\n'), tokenizer.vocabSize);
  const parts: TokenArray[] = [];
  for (const document of documents) {
    if (document.length === 0) continue;
    if (parts.length > 0) parts.push(separator);
    parts.push(compact(tokenizer.encode(document), tokenizer.vocabSize));
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const tokens = newTokenArray(length, tokenizer.vocabSize);
  let offset = 0;
  for (const part of parts) {
    tokens.set(part, offset);
    offset += part.length;
  }
  return tokens;
}

function compact(ids: Int32Array, vocabSize: number): TokenArray {
  const tokens = newTokenArray(ids.length, vocabSize);
  tokens.set(ids);
  return tokens;
}

function newTokenArray(length: number, vocabSize: number): TokenArray {
  if (vocabSize <= 2 ** 8) return new Uint8Array(length);
  return vocabSize <= 2 ** 16 ? new Uint16Array(length) : new Int32Array(length);
}

function checkCount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new RangeError(`${name} must be an integer >= 1, got ${String(value)}`);
}
