import type { Batch } from '../../base/batch';
import { checkInteger, checkOptions } from '../../base/checks';
import { SgemoeError } from '../../base/errors';
import { resolveOptions } from '../../base/options';
import { DEFAULT_SEED } from '../../base/random';
import type { OrderedBatchOptions, Split, TokenDataset, TrainBatchOptions } from '../data';
import type { Tokenizer } from '../tokenizer';
import { checkOrdered } from '../windows';
import { bestFit } from './bestFit';
import { CHAT_DATA_OPTIONS, type ChatDatasetOptions } from './options';
import { PackedBatches } from './packedBatches';
import { inputs, packRows } from './packRows';
import { RowError } from './rowChecks';
import { readRows } from './rows';
import { type Sample, samplesOf } from './samples';

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
    const complete = resolveOptions<ChatDatasetOptions>('ChatDataset', CHAT_DATA_OPTIONS, options);
    const { validation, validationFraction = 0 } = complete;
    const files = typeof paths === 'string' ? [paths] : paths;
    const samples = await readSamples(files, complete);
    if (validation !== undefined) {
      const splits = { train: samples, validation: await readSamples(validation, complete) };
      return new ChatDataset([...files, ...validation], splits, complete);
    }
    const kept = Math.min(Math.floor(samples.length * validationFraction), samples.length - 1);
    const border = samples.length - kept;
    const splits = { train: samples.slice(0, border), validation: samples.slice(border) };
    return new ChatDataset(files, splits, complete);
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
