import { join } from 'node:path';
import type { Batch } from '../../base/batch';
import { DEFAULT_SEED } from '../../base/random';
import type {
  DataPosition,
  OrderedBatchOptions,
  Split,
  TokenDataset,
  TrainBatchOptions,
  TrainingBatches,
} from '../data';
import { readTokenizer, tokenizerHash } from '../readTokenizer';
import type { Tokenizer } from '../tokenizer';
import { checkOrdered, checkSeqLen, checkTraining, emptyBatch, windowsInOrder } from '../windows';
import { type DatasetHeader, invalidData, readHeader } from './header';
import { epochRandom, Shuffle } from './shuffle';
import { TokenFile } from './tokenFile';

export interface PreparedDatasetOptions {
  /** The tokenizer that the data set was prepared with. Default: the one in its folder. */
  tokenizer?: Tokenizer | undefined;
  /** Window length for which the splits are checked at once. Default: they are checked at the first batch. */
  seqLen?: number | undefined;
}

/**
 * A data set that `prepareDataset` wrote. Windows are read from the files on demand, so memory doesn't grow with the data;
 * `close` closes the files.
 */
export class PreparedDataset implements TokenDataset {
  readonly #train: TokenFile;
  readonly #validation: TokenFile;

  private constructor(
    readonly path: string,
    readonly tokenizer: Tokenizer,
    readonly header: Readonly<DatasetHeader>,
  ) {
    const { train, validation, dtype, vocab_size: vocabSize } = header;
    this.#train = new TokenFile(join(path, train.file), train.tokens, dtype, vocabSize);
    this.#validation = new TokenFile(join(path, validation.file), validation.tokens, dtype, vocabSize);
  }

  /**
   * @throws SgemoeError SGEMOE_DATA_NOT_FOUND if the folder holds no data set, SGEMOE_DATA_INVALID if its header, the sizes
   * of its files and the tokenizer don't match, SGEMOE_DATA_TOO_SHORT as `TextDataset.fromPaths`.
   */
  static async open(dir: string, options: PreparedDatasetOptions = {}): Promise<PreparedDataset> {
    const header = await readHeader(dir);
    const tokenizer = options.tokenizer ?? (await readTokenizer(dir));
    const hash = tokenizerHash(tokenizer);
    if (hash !== header.tokenizer_sha256 || tokenizer.vocabSize !== header.vocab_size) {
      const which = options.tokenizer === undefined ? 'the tokenizer.json beside it' : 'the tokenizer given';
      throw invalidData(dir, `the data set was prepared with another tokenizer than ${which}`);
    }
    const dataset = new PreparedDataset(dir, tokenizer, header);
    try {
      if (options.seqLen !== undefined) checkSeqLen(dataset, options.seqLen, header.validation.tokens > 0);
    } catch (error) {
      dataset.close();
      throw error;
    }
    return dataset;
  }

  get trainTokens(): number {
    return this.header.train.tokens;
  }

  get validationTokens(): number {
    return this.header.validation.tokens;
  }

  get files(): readonly string[] {
    return [this.path];
  }

  /**
   * Passes over the training split, each in another random order. The windows of a pass have seqLen targets and lie side by
   * side from a random first token below seqLen on, so every token is a target once, except fewer than seqLen at either
   * end. See `TokenDataset.batches`.
   */
  batches(options: TrainBatchOptions): TrainingBatches {
    checkTraining(this, options);
    return new ShuffledWindows(this.#train, options);
  }

  batchesInOrder(split: Split, options: OrderedBatchOptions): IterableIterator<Batch> {
    checkOrdered(this, split, options);
    const file = split === 'train' ? this.#train : this.#validation;
    return windowsInOrder(file.tokens, (start, batch, row) => file.copyWindow(start, batch, row), options);
  }

  validationBatches(options: OrderedBatchOptions): IterableIterator<Batch> {
    return this.batchesInOrder('validation', options);
  }

  /** Closes the files; batches can't be drawn any more. */
  close(): void {
    this.#train.close();
    this.#validation.close();
  }
}

const POSITION_KIND = 'shuffled-windows';

/** Draws the windows of a file in passes, see `PreparedDataset.batches`. */
class ShuffledWindows implements TrainingBatches {
  readonly #file: TokenFile;
  readonly #batchSize: number;
  readonly #seqLen: number;
  readonly #seed: bigint;
  #epoch = 0;
  /** Position in the order of this epoch. */
  #next = 0;
  #offset = 0;
  #order!: Shuffle;

  constructor(file: TokenFile, { batchSize, seqLen, seed = DEFAULT_SEED }: TrainBatchOptions) {
    this.#file = file;
    this.#batchSize = batchSize;
    this.#seqLen = seqLen;
    this.#seed = BigInt.asUintN(64, BigInt(seed));
    this.#startEpoch(0);
  }

  next(): { done: false; value: Batch } {
    const batch = emptyBatch(this.#batchSize, this.#seqLen);
    for (let row = 0; row < this.#batchSize; row++) {
      if (this.#next === this.#order.count) this.#startEpoch(this.#epoch + 1);
      const window = this.#order.at(this.#next);
      this.#file.copyWindow(this.#offset + window * this.#seqLen, batch, row);
      this.#next++;
    }
    return { done: false, value: batch };
  }

  [Symbol.iterator](): this {
    return this;
  }

  getState(): DataPosition {
    return { ...this.#identity(), epoch: this.#epoch, window: this.#next };
  }

  setState(position: DataPosition): void {
    for (const [name, value] of Object.entries(this.#identity())) {
      if (position[name] === value) continue;
      throw new RangeError(`position must have ${name} ${value} as these batches, got ${position[name]}`);
    }
    const { epoch, window } = position;
    const isCount = (value: unknown): value is number =>
      Number.isSafeInteger(value) && (value as number) >= 0;
    if (!isCount(epoch) || !isCount(window)) {
      throw new RangeError(`position must have an epoch and a window, got ${epoch} and ${window}`);
    }
    const before = this.getState();
    this.#startEpoch(epoch);
    if (window > this.#order.count) {
      const { count } = this.#order;
      this.setState(before);
      throw new RangeError(`window of the position must be at most ${count}, got ${window}`);
    }
    this.#next = window;
  }

  /** The values that must agree for a position to mean the same windows. */
  #identity(): Record<string, string | number> {
    return {
      kind: POSITION_KIND,
      seed: String(this.#seed),
      seqLen: this.#seqLen,
      tokens: this.#file.tokens,
    };
  }

  #startEpoch(epoch: number): void {
    const random = epochRandom(this.#seed, epoch);
    const { tokens } = this.#file;
    this.#epoch = epoch;
    this.#next = 0;
    this.#offset = random.nextInt(Math.min(this.#seqLen, tokens - this.#seqLen));
    this.#order = new Shuffle(Math.floor((tokens - 1 - this.#offset) / this.#seqLen), random);
  }
}
