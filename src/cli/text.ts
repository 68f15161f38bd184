import { setImmediate } from 'node:timers/promises';
import { generateTokens, type NextTokenModel, type SamplingStrategy } from '../generate';
import type { Tokenizer } from '../text/tokenizer';

export interface WriteTextOptions {
  /** New tokens. */
  maxTokens: number;
  strategy: SamplingStrategy;
  /** Ends the text early. */
  signal?: AbortSignal;
  /** Receives the text piece by piece, whole characters only. */
  write(text: string): void;
}

/**
 * Continues a prompt, handing out the text while it is generated, and gives signals their turn between tokens. The
 * model sees the last maxSeqLen tokens. The end-of-text token ends the text; ids that the tokenizer doesn't have, with
 * which models are padded, are never chosen. Returns the number of new tokens.
 */
export async function writeText(
  model: NextTokenModel,
  tokenizer: Tokenizer,
  prompt: ArrayLike<number>,
  { maxTokens, strategy, signal, write }: WriteTextOptions,
): Promise<number> {
  const decoder = tokenizer.createDecoder();
  const total = prompt.length + maxTokens;
  const known: SamplingStrategy = {
    pickToken: (logits) => strategy.pickToken((logits as Float32Array).subarray(0, tokenizer.vocabSize)),
  };
  let tokens = 0;
  for (const token of generateTokens(model, prompt, total, known, { slidingWindow: true })) {
    if (token === tokenizer.endOfText) break;
    const text = decoder.push(token);
    if (text !== '') write(text);
    tokens++;
    await setImmediate();
    if (signal?.aborted) break;
  }
  const rest = decoder.flush();
  if (rest !== '') write(rest);
  return tokens;
}
