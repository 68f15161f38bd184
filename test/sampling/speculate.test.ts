import { describe, expect, it } from 'vitest';
import {
  GreedySampling,
  generate,
  generateTokens,
  type NextTokenModel,
  Sampler,
  type TokenSequence,
} from '../../src';
import { smallModel } from '../helpers/smallModel';

/** A model whose next token is the one behind the last in a cycle of 5, and that notes how it is asked. */
function cycle(maxSeqLen: number) {
  const steps: number[] = [];
  let held: number[] = [];
  const write = (logits: Float32Array, row: number, token: number) => {
    logits.fill(0, row * 8, row * 8 + 8);
    logits[row * 8 + ((token + 1) % 5)] = 1;
  };
  const sequence: Required<TokenSequence> = {
    append(tokens, start, logits) {
      held = held.slice(0, start).concat(Array.from(tokens).slice(start));
      write(logits, 0, held.at(-1)!);
    },
    appendAll(tokens, start, logits) {
      const added = Array.from(tokens).slice(start);
      for (const [i, token] of added.entries()) write(logits, i, token);
      held.push(...added);
      if (held.length > maxSeqLen) throw new RangeError('no room');
      steps.push(added.length);
    },
    truncate(length) {
      held.length = length;
    },
  };
  const model: NextTokenModel = {
    vocabSize: 8,
    maxSeqLen,
    nextTokenLogits(tokens, out) {
      write(out, 0, tokens[tokens.length - 1]);
      return out;
    },
    openSequence: () => sequence,
  };
  return { model, steps, held: () => held };
}

describe('generate with speculateTokens', () => {
  it('takes fewer steps for the same tokens', () => {
    const { model, steps, held } = cycle(100);
    const tokens = generate(model, [0, 1, 2, 3, 4, 0, 1], 40, new GreedySampling(), { speculateTokens: 8 });
    expect(tokens).toEqual(Array.from({ length: 40 }, (_, i) => i % 5));
    // The first new token comes from the prompt; four steps bring nine each, the last what is left.
    expect(steps).toEqual([9, 9, 9, 5]);
    expect(held()).toEqual(tokens.slice(0, -1));
  });

  it('goes on through a sliding window', () => {
    const { model } = cycle(12);
    const options = { slidingWindow: true, speculateTokens: 8 };
    const tokens = generate(model, [0, 1, 2, 3, 4, 0, 1], 30, new GreedySampling(), options);
    expect(tokens).toEqual(Array.from({ length: 30 }, (_, i) => i % 5));
  });

  it('ends at an end token among the guesses, and where the reader leaves', () => {
    const { model } = cycle(100);
    const prompt = [0, 1, 2, 3, 4, 0, 1];
    const options = { endTokens: [4], speculateTokens: 8 };
    expect(generate(model, prompt, 40, new GreedySampling(), options)).toEqual([...prompt, 2, 3]);
    const taken: number[] = [];
    for (const token of generateTokens(model, prompt, 40, new GreedySampling(), { speculateTokens: 8 })) {
      taken.push(token);
      if (taken.length === 5) break;
    }
    expect(taken).toEqual([2, 3, 4, 0, 1]);
  });

  it.each([
    { temperature: 0 },
    { seed: 1, temperature: 0.7 },
    { seed: 2, topK: 4, repetitionPenalty: 1.2 },
    { seed: 3, frequencyPenalty: 0.5, presencePenalty: 0.5 },
  ])('chooses as without, by the draws of the same seed: %o', (options) => {
    const model = smallModel();
    const prompt = [5, 6, 7, 5, 6, 7, 5, 6];
    const [plain, guessed] = [0, 6].map((speculateTokens) => {
      const strategy = new Sampler(options, { vocabSize: model.vocabSize });
      return generate(model, prompt, model.maxSeqLen, strategy, { speculateTokens });
    });
    expect(plain).toHaveLength(model.maxSeqLen);
    expect(guessed).toEqual(plain);
  });

  it('refuses a number that is no integer in [0, 128]', () => {
    const { model } = cycle(100);
    for (const speculateTokens of [-1, 0.5, 129]) {
      expect(() => generate(model, [0], 2, new GreedySampling(), { speculateTokens })).toThrow(
        'speculateTokens',
      );
    }
  });
});
