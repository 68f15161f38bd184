import { resolveOptions } from '../../base/options';
import type { ItemForm } from './itemForm';
import { CHAT_DATA_OPTIONS, type ChatDatasetOptions } from './options';
import { PackedDataset } from './packedDataset';
import { inputs, packRows } from './packRows';
import { readSplits } from './readItems';
import { RowError } from './rowChecks';
import { cutSample, type Sample, samplesOf } from './samples';

const SAMPLES: ItemForm<Sample> = { inputs, tokens: ({ ids }) => ids.length, pack: packRows };

/**
 * Conversations, prompts with completions, or texts to fine-tune on. A file has a JSON object a line, or is one JSON array of
 * them: `{ messages, tools? }`, `{ prompt, completion }` or `{ text }` (docs/fine-tuning.md). Each gives a sample of its own;
 * batches pack several into a row, by best fit anew for each pass over the data, and `positions` keeps them apart.
 */
export class ChatDataset extends PackedDataset<Sample> {
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
    const { tokenizer, seqLen, validation = [], lossOn = 'assistant' } = complete;
    const files = typeof paths === 'string' ? [paths] : paths;
    const splits = await readSplits(files, complete, (row) =>
      samplesOf(row, tokenizer, lossOn).map((sample) => fitted(sample, complete)),
    );
    return new ChatDataset([...files, ...validation], splits, tokenizer, seqLen);
  }

  protected override get form(): ItemForm<Sample> {
    return SAMPLES;
  }
}

/** The sample, or what is left of one that is too long. @throws RowError where nothing is. */
function fitted(sample: Sample, { seqLen, tooLong = 'skip', onNote }: ChatDatasetOptions): Sample {
  if (inputs(sample) <= seqLen) return sample;
  const tokens = `it has ${sample.ids.length} tokens, more than ${seqLen}`;
  if (tooLong === 'skip') throw new RowError(tokens);
  const cut = cutSample(sample, seqLen);
  if (cut === null) throw new RowError(`${tokens}, and the first of them hold nothing to learn`);
  onNote?.(`${sample.place}: ${tokens}; cut.`);
  return cut;
}
