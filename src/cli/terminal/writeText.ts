import { setImmediate } from 'node:timers/promises';
import { generateTokens, type NextTokenModel } from '../../sampling/generate';
import type { SamplingOptions } from '../../sampling/options';
import { type SampledToken, Sampler } from '../../sampling/sampler';
import { allEndTokens } from '../../text/endTokens';
import { TextStream } from '../../text/textStream';
import type { Tokenizer } from '../../text/tokenizer';
import { UsageError } from './usageError';

export interface WriteTextOptions {
  /** How tokens are chosen and where the text ends; maxTokens must be given. */
  sampling: SamplingOptions & { maxTokens: number };
  /** Ends the text early. */
  signal?: AbortSignal;
  /** Receives the text piece by piece, whole characters only. */
  write(text: string): void;
  /** Receives each token of the text; the object is the sampler's own. */
  onToken?(sampled: SampledToken): void;
}

/**
 * Continues a prompt, handing out the text while it is generated, and gives signals their turn between tokens. The
 * model sees the last maxSeqLen tokens. The end tokens of the checkpoint and of the tokenizer end the text; ids that the tokenizer doesn't have, with
 * which models are padded, are never chosen. Returns the number of new tokens.
 */
export async function writeText(
  model: NextTokenModel,
  tokenizer: Tokenizer,
  prompt: ArrayLike<number>,
  { sampling, signal, write, onToken }: WriteTextOptions,
): Promise<number> {
  const sampler = new Sampler(sampling, { vocabSize: tokenizer.vocabSize });
  const { maxTokens, stop, stopTokens } = sampler.options;
  const stream = new TextStream(tokenizer, { stop });
  const give = (text: string) => {
    if (text !== '') write(text);
  };
  let tokens = 0;
  const total = prompt.length + maxTokens;
  const endTokens = [...allEndTokens(model, tokenizer), ...stopTokens];
  for (const token of generateTokens(model, prompt, total, sampler, { slidingWindow: true, endTokens })) {
    onToken?.(sampler.last);
    give(stream.push(token));
    tokens++;
    await setImmediate();
    if (signal?.aborted || stream.stopped !== null) break;
  }
  give(stream.flush());
  return tokens;
}

/** @throws UsageError when the tokenizer of a folder has tokens that the model beside it doesn't know. */
export function requireOneCheckpoint(
  dir: string,
  model: Pick<NextTokenModel, 'vocabSize'>,
  tokenizer: Pick<Tokenizer, 'vocabSize'>,
): void {
  if (tokenizer.vocabSize <= model.vocabSize) return;
  throw new UsageError(
    `The tokenizer in ${dir} has ${tokenizer.vocabSize} tokens, its model ${model.vocabSize}: ` +
      'the folder mixes two checkpoints.',
  );
}
