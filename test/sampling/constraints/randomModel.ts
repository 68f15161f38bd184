import type { NextTokenModel } from '../../../src';

/**
 * A model without training: any token is as good as another, but for what ends strings, lists and texts.
 * @param bytes of each token. @param end the token that ends a text.
 */
export function randomModel(
  bytes: readonly (Uint8Array | null)[],
  end: number,
  maxSeqLen: number,
  uniform: () => number,
): NextTokenModel {
  const isLikely = (token: number) =>
    ['"', '}', ']', ',', ':'].includes(String(Buffer.from(bytes[token] ?? [])));
  const likely = [...bytes.keys()].filter(isLikely);
  return {
    vocabSize: bytes.length,
    maxSeqLen,
    endTokens: [end],
    nextTokenLogits(_tokens, out) {
      for (let i = 0; i < out.length; i++) out[i] = 8 * uniform();
      for (const token of likely) out[token] += 4;
      out[end] += 6;
      return out;
    },
  };
}
