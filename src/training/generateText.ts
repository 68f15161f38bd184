import { setImmediate } from 'node:timers/promises';
import type { Precision } from '../base/precision';
import type { KvCacheDtype } from '../base/storageTypes';
import { TokenVocabulary } from '../sampling/constraints/constraint';
import { isConstrained } from '../sampling/constraints/options';
import { generateTokens } from '../sampling/generate';
import type { NextTokenModel } from '../sampling/nextToken';
import type { SamplingOptions } from '../sampling/options';
import { type SampledToken, Sampler } from '../sampling/sampler';
import { allEndTokens } from '../text/endTokens';
import { TextStream } from '../text/textStream';
import type { Tokenizer } from '../text/tokenizer';

export interface GenerateTextOptions {
  /** How tokens are chosen and where the text ends; maxTokens is required. */
  sampling: SamplingOptions & { maxTokens: number };
  /** How keys and values are kept, as in DecoderOptions. Default 'float32'. */
  kvCacheDtype?: KvCacheDtype | undefined;
  /** What products of the prompt multiply, as in GenerateOptions. Default 'float32'. */
  precision?: Precision | undefined;
  /** The most tokens that are guessed at once, as in GenerateOptions. Default 0. */
  speculateTokens?: number | undefined;
  /** Ends the text early. */
  signal?: AbortSignal | undefined;
  /** Receives each token of the text and the text before it. The objects are reused, so copy what you keep. */
  onToken?(sampled: SampledToken, text: TextStream): void;
}

/**
 * Continues a prompt and yields the new text in pieces of whole characters while it is generated. The event loop runs
 * between tokens. The model sees the last maxSeqLen tokens. The end tokens of the checkpoint and of the tokenizer end the
 * text. Ids that the tokenizer doesn't have (models are padded with such) are never chosen.
 */
export async function* generateText(
  model: NextTokenModel,
  tokenizer: Tokenizer,
  prompt: ArrayLike<number>,
  { sampling, kvCacheDtype, precision, speculateTokens, signal, onToken }: GenerateTextOptions,
): AsyncGenerator<string, void, void> {
  const ends = sampling.ignoreEos ? [] : allEndTokens(model, tokenizer);
  const sampler = new Sampler(sampling, {
    vocabSize: tokenizer.vocabSize,
    vocabulary: isConstrained(sampling) ? new TokenVocabulary(tokenizer.tokenBytes()) : undefined,
    endTokens: ends,
  });
  const { maxTokens, minTokens, stop, stopTokens } = sampler.options;
  const stream = new TextStream(tokenizer, { stop, prompt });
  const total = prompt.length + maxTokens;
  const endTokens = [...ends, ...stopTokens];
  const options = { slidingWindow: true, endTokens, kvCacheDtype, precision, speculateTokens };
  let made = 0;
  for (const token of generateTokens(model, prompt, total, sampler, options)) {
    onToken?.(sampler.last, stream);
    const text = stream.push(token, ++made >= minTokens);
    if (text !== '') yield text;
    await setImmediate();
    if (signal?.aborted || stream.stopped !== null) break;
  }
  const rest = stream.flush();
  if (rest !== '') yield rest;
}
