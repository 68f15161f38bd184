import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Batch,
  ByteTokenizer,
  evaluate,
  evaluateBatches,
  evaluateText,
  type MoETransformer,
  TextDataset,
  trainBpe,
} from '../../src';
import { scoringWindows } from '../../src/training/evaluateText';
import { expectClose } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { smallModel } from '../helpers/smallModel';

const SEQ_LEN = 8;
const tokenizer = new ByteTokenizer();
const model = smallModel({ vocabSize: 256, maxSeqLen: 2 * SEQ_LEN });
const text = 'a text of some length, naïve';
const ids = tokenizer.encode(text);

/** Nats of one target, from the logits of a forward over its context alone. */
function natsOf(of: MoETransformer, context: Int32Array, target: number): number {
  const logits = of.nextTokenLogits(context);
  const top = Math.max(...logits);
  return top + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - top), 0)) - logits[target];
}

/** Scores each target in its own window, the first one that reaches it. */
function bruteForce(seqLen: number, stride: number): number {
  let sum = 0;
  for (let target = 1; target < ids.length; target++) {
    const window = Math.max(0, Math.ceil((target - seqLen) / stride));
    sum += natsOf(model, ids.slice(window * stride, target), ids[target]);
  }
  return sum / (ids.length - 1);
}

describe('evaluateText', () => {
  // Logits of other matmul shapes differ by about 1e-5 of the largest (here below 3), and so does each target's loss.
  test.each([1, 3, 5, SEQ_LEN])(
    'with stride %i scores each token as a window of its own does',
    async (stride) => {
      for (const batchSize of [1, 3]) {
        const result = await evaluateText(model, text, { tokenizer, seqLen: SEQ_LEN, stride, batchSize });
        expectClose('loss', result.loss, bruteForce(SEQ_LEN, stride), 1e-5);
        expect(result.countedTokens).toBe(ids.length - 1);
      }
    },
  );

  test('with stride seqLen is the plain validation loss', async () => {
    const plain = TextDataset.fromText(text, { validationFraction: 0 });
    const windows = { seqLen: SEQ_LEN, stride: SEQ_LEN, batchSize: 2 };
    const want = evaluate(model, plain.batchesInOrder('train', { seqLen: SEQ_LEN, batchSize: 2 }));
    const { countedBytes, ...got } = await evaluateText(model, text, { tokenizer, ...windows });
    expectClose('loss', got.loss, want.loss, 1e-12);
    expectClose('perplexity', got.perplexity, Math.exp(want.loss), 1e-12);
    expectClose('bits', got.bitsPerByte, want.bitsPerByte, 1e-12);
    expect([got.countedTokens, countedBytes]).toEqual([want.countedTokens, ids.length - 1]);
  });

  test('counts the bytes of the text, not the tokens', async () => {
    const bpe = await trainBpe([text.repeat(5)], { vocabSize: 300 });
    const wide = smallModel({ vocabSize: bpe.vocabSize });
    const result = await evaluateText(wide, text, { tokenizer: bpe });
    const tokens = bpe.encode(text);
    expect(result.countedTokens).toBe(tokens.length - 1);
    expect(result.countedBytes).toBe(ids.length - bpe.countBytes(tokens.slice(0, 1)));
    expect(result.countedBytes).toBeGreaterThan(2 * result.countedTokens);
    const bits = (result.loss * result.countedTokens) / Math.LN2 / result.countedBytes;
    expectClose('bits', result.bitsPerByte, bits, 1e-12);
  });

  test('scores texts shorter than a window, and refuses those with nothing to score', async () => {
    const two = await evaluateText(model, 'ab', { tokenizer });
    expectClose('loss', two.loss, natsOf(model, Int32Array.of(97), 98), 1e-5);
    expect(two.countedTokens).toBe(1);
    for (const short of ['', 'a']) {
      await expectError('SGEMOE_DATA_TOO_SHORT', /^The text has [01] tokens, but 2 are needed/, () =>
        evaluateText(model, short, { tokenizer }),
      );
    }
  });

  test('reports its progress, and stops between two batches', async () => {
    const abort = new AbortController();
    const seen: number[] = [];
    const onProgress = (tokens: number) => {
      seen.push(tokens);
      if (seen.length === 2) abort.abort();
    };
    const options = { tokenizer, seqLen: SEQ_LEN, stride: 4, batchSize: 1, signal: abort.signal, onProgress };
    await expect(evaluateText(model, text, options)).rejects.toThrow(/aborted/);
    expect(seen).toEqual([8, 12]);
  });

  test('names an impossible option', async () => {
    const wrong = (options: object) => evaluateText(model, text, { tokenizer, ...options });
    await expect(wrong({ strides: 1 })).rejects.toThrow(/unknown option 'strides'/);
    await expect(wrong({ seqLen: 17 })).rejects.toThrow('seqLen must be at most maxSeqLen (16), got 17');
    await expect(wrong({ stride: 0 })).rejects.toThrow('stride must be an integer >= 1, got 0');
    await expect(wrong({ seqLen: 8, stride: 9 })).rejects.toThrow('stride must be at most seqLen (8), got 9');
    await expect(wrong({ batchSize: 0.5 })).rejects.toThrow('batchSize must be an integer >= 1, got 0.5');
    await expect(evaluateBatches(model, [], { tokenizer })).rejects.toThrow(/no target that counts/);
  });
});

describe('scoringWindows', () => {
  const windows = (maxSeqLen: number, vocabSize: number, options = {}) =>
    scoringWindows({ config: { maxSeqLen, vocabSize } } as never, options);

  test('fill 2,048 tokens, half of each window new, and bound the logits', () => {
    expect(windows(128, 256)).toEqual({ seqLen: 128, stride: 64, batchSize: 16 });
    expect(windows(32_768, 256)).toEqual({ seqLen: 2048, stride: 1024, batchSize: 1 });
    expect(windows(256, 150_000)).toEqual({ seqLen: 256, stride: 128, batchSize: 1 });
    expect(windows(128, 256, { seqLen: 5 })).toEqual({ seqLen: 5, stride: 3, batchSize: 409 });
  });
});

describe('batchesInOrder', () => {
  const sizes = fc.integer({ min: 1, max: 9 });

  test('counts every token but the first exactly once, with the context that the stride leaves', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 90 }), sizes, sizes, sizes, (length, batchSize, seqLen, part) => {
        const stride = Math.min(part, seqLen);
        const bytes = Uint8Array.from({ length }, (_, i) => i);
        const dataset = TextDataset.fromText(bytes, { validationFraction: 0 });
        const counted: number[] = [];
        for (const batch of dataset.batchesInOrder('train', { batchSize, seqLen, stride })) {
          expect(batch.batch <= batchSize && batch.seqLen <= seqLen).toBe(true);
          for (const { target, context } of countedTargets(batch)) {
            counted.push(target);
            // The context goes from the window's first token up to the one before the target.
            expect(context).toBeGreaterThanOrEqual(Math.min(target, seqLen - stride + 1));
          }
        }
        expect(counted).toEqual(Array.from({ length: length - 1 }, (_, i) => i + 1));
      }),
    );
  });

  test('ends where it is told to', () => {
    const dataset = TextDataset.fromText('x'.repeat(21), { validationFraction: 0 });
    const options = { batchSize: 2, seqLen: 8, stride: 3 };
    const shapes = (more: object) =>
      Array.from(dataset.batchesInOrder('train', { ...options, ...more }), (b) => [b.batch, b.seqLen]);
    expect(shapes({})).toEqual([
      [2, 8],
      [2, 8],
      [1, 8],
    ]);
    expect(shapes({ stride: 7 })).toEqual([
      [2, 8],
      [1, 6],
    ]);
    expect(shapes({ maxBatches: 1 })).toEqual([[2, 8]]);
    expect(() => dataset.batchesInOrder('test' as never, options)).toThrow(
      /'train' or 'validation', got test/,
    );
  });
});

function countedTargets({ ids: tokens, targets, batch, seqLen }: Batch) {
  const counted: { target: number; context: number }[] = [];
  for (let row = 0; row < batch; row++) {
    for (let s = 0; s < seqLen; s++) {
      const target = targets[row * seqLen + s];
      if (target < 0) continue;
      expect(tokens[row * seqLen + s]).toBe(target - 1);
      counted.push({ target, context: s + 1 });
    }
  }
  return counted;
}
