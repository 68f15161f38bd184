import type { Precision } from '../base/precision';
import type { KvCacheDtype } from '../base/storageTypes';

/** The part of a model that generation needs. */
export interface NextTokenModel {
  readonly vocabSize: number;
  readonly maxSeqLen: number;
  /** Tokens that end a text. Default: none. */
  readonly endTokens?: readonly number[] | undefined;
  /**
   * Logits [vocabSize] of the token after `tokens`, written to `out` and returned. `precision` is that of many tokens' products
   * (default 'float32').
   */
  nextTokenLogits(tokens: ArrayLike<number>, out: Float32Array, precision?: Precision): Float32Array;
  /**
   * A sequence of up to `contextLength` tokens that keeps their keys and values, as `kvCacheDtype` says (default 'float32').
   * For a model without it, every new token costs `nextTokenLogits` of the whole text.
   */
  openSequence?(contextLength: number, kvCacheDtype?: KvCacheDtype, precision?: Precision): TokenSequence;
}

/** A growing text. The model's weights must not change meanwhile. */
export interface TokenSequence {
  /** Appends tokens [start, tokens.length); `logits` [vocabSize] receives the logits of the token after them. */
  append(tokens: ArrayLike<number>, start: number, logits: Float32Array): void;
  /**
   * Appends as `append` does; `logits` [N,vocabSize] receives those after each of the N new tokens, at most 129. With `truncate` it
   * lets generation guess tokens.
   */
  appendAll?(tokens: ArrayLike<number>, start: number, logits: Float32Array): void;
  /** Forgets the tokens from `length` on. */
  truncate?(length: number): void;
}

/** Chooses the next token from its logits. */
export interface SamplingStrategy {
  /** Called with the prompt before the first choice. */
  acceptPrompt?(tokens: ArrayLike<number>): void;
  /** @throws RangeError when no logit is finite. */
  pickToken(logits: ArrayLike<number>): number;
  /** Whether the text has ended, so that no token must follow. Default: false. */
  readonly ended?: boolean | undefined;
}
