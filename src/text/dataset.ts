import type { Batch } from '../base/batch';
import { DEFAULT_SEED, Lcg64 } from '../base/random';
import { ByteTokenizer } from './byteTokenizer';
import type {
  DataPosition,
  OrderedBatchOptions,
  Split,
  TokenDataset,
  TrainBatchOptions,
  TrainingBatches,
} from './data';
import { readTextFiles } from './files';
import type { Tokenizer } from './tokenizer';
import { checkOrdered, checkSeqLen, checkTraining, emptyBatch, windowsInOrder } from './windows';

export interface TextDatasetOptions {
  /** The tokenizer. Default: a new `ByteTokenizer`. */
  tokenizer?: Tokenizer | undefined;
  /** Share of the tokens, at the end of the stream, used for validation, in [0, 1). Default 0.1. */
  validationFraction?: number | undefined;
  /** Window length for which the splits are checked at once. Default: they are checked at the first batch. */
  seqLen?: number | undefined;
}

export interface TextFilesOptions extends TextDatasetOptions {
  /**
   * Endings such as '.md' that files found in a folder must have. Default: any. Named files are always read.
   */
  extensions?: readonly string[] | undefined;
}

/** Token ids in the smallest type that holds the vocabulary. */
export type TokenArray = Uint8Array | Uint16Array | Int32Array;

/**
 * A text as one stream of tokens, whose first part is for training and whose end is for validation.
 *
 * The documents (files) are tokenized one by one and joined, in order, with the tokenizer's end-of-text token between
 * them, or with the tokens of one newline if there is no such token. Empty documents are left out. Bytes are taken as they
 * are: line ends stay, and only the tokenizer may normalise.
 * The last floor(N * validationFraction) of the stream's N tokens are the validation split, even within a document.
 */
export class TextDataset implements TokenDataset {
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
    if (options.seqLen !== undefined) checkSeqLen(this, options.seqLen, fraction > 0);
  }

  get trainTokens(): number {
    return this.train.length;
  }

  get validationTokens(): number {
    return this.validation.length;
  }

  /**
   * Reads files and folders; `readTextFiles` says which files of a folder are read, and in which order.
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

  /** Makes a data set of one document in memory. @throws SgemoeError SGEMOE_DATA_TOO_SHORT as `fromPaths`. */
  static fromText(text: string | Uint8Array, options: TextDatasetOptions = {}): TextDataset {
    return new TextDataset([text], [], options);
  }

  /**
   * Draws windows of seqLen + 1 tokens. Their starts are uniform, with replacement, over all that fit into the training
   * split. See `TokenDataset.batches`.
   */
  batches(options: TrainBatchOptions): WindowSampler {
    checkTraining(this, options);
    const { batchSize, seqLen, seed = DEFAULT_SEED } = options;
    return new WindowSampler(this.train, batchSize, seqLen, seed);
  }

  batchesInOrder(split: Split, options: OrderedBatchOptions): Generator<Batch, void> {
    checkOrdered(this, split, options);
    const tokens = this[split];
    const copy = (start: number, batch: Batch, row: number) => copyWindow(tokens, start, batch, row);
    return windowsInOrder(tokens.length, copy, options);
  }

  validationBatches(options: OrderedBatchOptions): Generator<Batch, void> {
    return this.batchesInOrder('validation', options);
  }
}

const POSITION_KIND = 'random-windows';

/** Draws training windows for ever. Its position is the state of its generator. */
export class WindowSampler implements TrainingBatches {
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

  getState(): DataPosition {
    return { kind: POSITION_KIND, random: String(this.random.getState()) };
  }

  setState({ kind, random }: DataPosition): void {
    if (kind !== POSITION_KIND || typeof random !== 'string' || !/^\d+$/.test(random)) {
      throw new RangeError(
        `position must be of kind "${POSITION_KIND}" with a random state, got kind "${kind}"`,
      );
    }
    this.random.setState(BigInt(random));
  }
}

function copyWindow(tokens: TokenArray, start: number, { ids, targets, seqLen }: Batch, row: number): void {
  ids.set(tokens.subarray(start, start + seqLen), row * seqLen);
  targets.set(tokens.subarray(start + 1, start + 1 + seqLen), row * seqLen);
}

function joinDocuments(documents: readonly (string | Uint8Array)[], tokenizer: Tokenizer): TokenArray {
  const separator = compact(separatorOf(tokenizer), tokenizer.vocabSize);
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

/** The tokens between two documents. */
export function separatorOf(tokenizer: Tokenizer): Int32Array {
  return tokenizer.endOfText === null ? tokenizer.encode('\n') : Int32Array.of(tokenizer.endOfText);
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
