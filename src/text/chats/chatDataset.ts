import type { Batch } from '../../base/batch';
import { checkInteger, checkOptions } from '../../base/checks';
import { SgemoeError } from '../../base/errors';
import { DEFAULT_SEED } from '../../base/random';
import type { OrderedBatchOptions, Split, TokenDataset, TrainBatchOptions } from '../data';
import type { Tokenizer } from '../tokenizer';
import { checkOrdered } from '../windows';
import { bestFit } from './bestFit';
import { PackedBatches } from './packedBatches';
import { inputs, packRows } from './packRows';
import { RowError } from './rowChecks';
import { readRows } from './rows';
import { LOSS_ON, type LossOn, type Sample, samplesOf } from './samples';

export interface ChatDatasetOptions {
  tokenizer: Tokenizer;
  /** Most tokens of a sample, an integer >= 2: the length of the rows into which samples are packed. */
  seqLen: number;
  /** Files for validation. Default: the last `validationFraction` of the samples. */
  validation?: string | readonly string[] | undefined;
  /** Share of the samples, in [0, 1), that validate where there are no files for it; drawn by no seed: the last. Default 0.1. */
  validationFraction?: number | undefined;
  /** What is learnt: what the assistant wrote, or everything. Default 'assistant'. */
  lossOn?: LossOn | undefined;
  /** What becomes of a sample of more than seqLen tokens: it is left out, or cut behind them. Default 'skip'. */
  tooLong?: 'skip' | 'cut' | undefined;
  /** Called with a sentence for each row that is left out or cut. Default: nobody is told. */
  onNote?: ((note: string) => void) | undefined;
}

const OPTIONS: readonly (keyof ChatDatasetOptions)[] = [
  'tokenizer',
  'seqLen',
  'validation',
  'validationFraction',
  'lossOn',
  'tooLong',
  'onNote',
];

/**
 * Conversations, prompts with completions, or texts to fine-tune on. A file has a JSON object a line, or is one JSON array of
 * them: `{ messages, tools? }`, `{ prompt, completion }` or `{ text }` (docs/fine-tuning.md). Each gives a sample of its own;
 * batches pack several into a row, by best fit anew for each pass over the data, and `positions` keeps them apart.
 */
export class ChatDataset implements TokenDataset {
  readonly tokenizer: Tokenizer;
  readonly files: readonly string[];
  readonly train: readonly Sample[];
  readonly validation: readonly Sample[];
  readonly #seqLen: number;

  private constructor(
    files: readonly string[],
    splits: { train: readonly Sample[]; validation: readonly Sample[] },
    { tokenizer, seqLen }: ChatDatasetOptions,
  ) {
    this.files = files;
    this.train = splits.train;
    this.validation = splits.validation;
    this.tokenizer = tokenizer;
    this.#seqLen = seqLen;
  }

  /**
   * Reads files of samples. A row that can't be read, can't be rendered, is empty or too long is told to `onNote` with its
   * line.
   * @throws SgemoeError SGEMOE_DATA_NOT_FOUND, SGEMOE_DATA_ENCODING, SGEMOE_DATA_ROWS for a file of which nothing can be used,
   * SGEMOE_CHAT_TEMPLATE for conversations where the tokenizer has no template; TypeError or RangeError for the options.
   */
  static async fromPaths(
    paths: string | readonly string[],
    options: ChatDatasetOptions,
  ): Promise<ChatDataset> {
    checkDataset(options);
    const { validation, validationFraction = 0.1 } = options;
    const files = typeof paths === 'string' ? [paths] : paths;
    const samples = await readSamples(files, options);
    if (validation !== undefined) {
      const others = typeof validation === 'string' ? [validation] : validation;
      const splits = { train: samples, validation: await readSamples(others, options) };
      return new ChatDataset([...files, ...others], splits, options);
    }
    const kept = Math.min(Math.floor(samples.length * validationFraction), samples.length - 1);
    const border = samples.length - kept;
    const splits = { train: samples.slice(0, border), validation: samples.slice(border) };
    return new ChatDataset(files, splits, options);
  }

  /** Tokens of the training samples. */
  get trainTokens(): number {
    return tokensOf(this.train);
  }

  /** Tokens of the validation samples. */
  get validationTokens(): number {
    return tokensOf(this.validation);
  }

  /** Rows of seqLen tokens that the training samples fill: a pass over the data. */
  get rowsPerEpoch(): number {
    return bestFit(this.train.map(inputs), this.#seqLen).length;
  }

  /** Batches of rows, pass after pass; each pass packs the samples in another order. */
  batches(options: TrainBatchOptions): PackedBatches {
    checkOptions('batches', options, ['batchSize', 'seqLen', 'seed']);
    checkInteger('batchSize', options.batchSize, 1);
    this.#checkSeqLen(options.seqLen);
    const { batchSize, seqLen, seed = DEFAULT_SEED } = options;
    return new PackedBatches(this.train, { batchSize, seqLen, seed });
  }

  /** The samples of a split, each once. `stride` has no meaning here and must be absent. */
  *batchesInOrder(split: Split, options: OrderedBatchOptions): Generator<Batch, void> {
    checkOrdered(this, split, options);
    this.#checkSeqLen(options.seqLen);
    const { batchSize, seqLen, stride, maxBatches = Infinity } = options;
    if (stride !== undefined) throw new RangeError('batchesInOrder: samples have no stride');
    const samples = this[split];
    const rows = bestFit(samples.map(inputs), seqLen);
    for (let row = 0, drawn = 0; row < rows.length && drawn < maxBatches; row += batchSize, drawn++) {
      yield packRows(
        rows.slice(row, row + batchSize).map((row) => row.map((i) => samples[i])),
        seqLen,
      );
    }
  }

  validationBatches(options: OrderedBatchOptions): Generator<Batch, void> {
    return this.batchesInOrder('validation', options);
  }

  #checkSeqLen(seqLen: number): void {
    checkInteger('seqLen', seqLen, 1);
    if (seqLen < this.#seqLen) {
      throw new RangeError(`seqLen must be at least that of the data set, ${this.#seqLen}, got ${seqLen}`);
    }
  }
}

function tokensOf(samples: readonly Sample[]): number {
  return samples.reduce((sum, { ids }) => sum + ids.length, 0);
}

/** @throws SgemoeError SGEMOE_DATA_ROWS if no row can be used. */
async function readSamples(files: readonly string[], options: ChatDatasetOptions): Promise<Sample[]> {
  const { tokenizer, lossOn = 'assistant', onNote } = options;
  if (files.length === 0) throw new RangeError('ChatDataset: paths must name at least one file, got none');
  const samples: Sample[] = [];
  let rows = 0;
  let why = 'it has no rows';
  for (const file of files) {
    for (const row of await readRows(file)) {
      rows++;
      try {
        samples.push(...samplesOf(row, tokenizer, lossOn).flatMap((sample) => fitted(sample, options)));
      } catch (error) {
        const isOfRow =
          error instanceof RowError || (tokenizer.hasChatTemplate && error instanceof SgemoeError);
        if (!isOfRow) throw error;
        why = `${row.place}: ${(error as Error).message}`;
        onNote?.(`${why}; left out.`);
      }
    }
  }
  if (samples.length > 0) return samples;
  const message = `None of the ${rows} rows of ${files.join(', ')} can be used; ${why}`;
  throw new SgemoeError('SGEMOE_DATA_ROWS', message);
}

/** The sample, or what is left of one that is too long. @throws RowError where nothing is. */
function fitted(sample: Sample, { seqLen, tooLong = 'skip', onNote }: ChatDatasetOptions): Sample[] {
  const { place, ids, counts } = sample;
  if (ids.length <= seqLen + 1) return [sample];
  const tokens = `it has ${ids.length} tokens, more than ${seqLen}`;
  if (tooLong === 'skip') throw new RowError(tokens);
  const cut = { place, ids: ids.slice(0, seqLen + 1), counts: counts.slice(0, seqLen + 1) };
  if (!cut.counts.includes(1)) throw new RowError(`${tokens}, and the first of them hold nothing to learn`);
  onNote?.(`${place}: ${tokens}; cut.`);
  return [cut];
}

function checkDataset(options: ChatDatasetOptions): void {
  checkOptions('ChatDataset', options, OPTIONS);
  const { tokenizer, seqLen, validationFraction = 0, lossOn = 'all', tooLong = 'cut' } = options;
  if (typeof tokenizer?.encode !== 'function')
    throw new TypeError('ChatDataset: tokenizer must be a Tokenizer');
  checkInteger('ChatDataset: seqLen', seqLen, 2);
  if (!(validationFraction >= 0 && validationFraction < 1)) {
    throw new RangeError(
      `ChatDataset: validationFraction must be in [0, 1), got ${String(validationFraction)}`,
    );
  }
  if (!LOSS_ON.includes(lossOn)) {
    throw new RangeError(`ChatDataset: lossOn must be ${LOSS_ON.join(' or ')}, got ${String(lossOn)}`);
  }
  if (tooLong !== 'skip' && tooLong !== 'cut') {
    throw new RangeError(`ChatDataset: tooLong must be skip or cut, got ${String(tooLong)}`);
  }
}
