import { Tokenizer as HuggingFace } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BYTE_CHARACTERS } from '../../../src/base/byteAlphabet';
import { type BpeOptions, type BpeProgress, trainBpe } from '../../../src/text/bpe/trainBpe';
import { splitWords, WordCounts } from '../../../src/text/bpe/words';
import type { HuggingFaceTokenizer } from '../../../src/text/huggingFaceTokenizer';

interface TokenizerJson {
  model: { vocab: Record<string, number>; merges: string[] };
}

const jsonOf = (tokenizer: HuggingFaceTokenizer) => tokenizer.toJSON() as unknown as TokenizerJson;
const mergesOf = (tokenizer: HuggingFaceTokenizer) => jsonOf(tokenizer).model.merges;
const train = (text: string, merges: number, options: Partial<BpeOptions> = {}) =>
  trainBpe([text], { vocabSize: 257 + merges, ...options });

/**
 * Merges as the definition has them (Sennrich et al. 2016, algorithm 1): every pair counted anew before each merge. Of
 * equal counts the pair with the lower ids.
 */
function mergesByDefinition(text: string, count: number, minFrequency = 2): string[] {
  const ids = new Map(['<|endoftext|>', ...[...BYTE_CHARACTERS].sort()].map((token, id) => [token, id]));
  let words = splitWords(text).map((word) => Array.from(Buffer.from(word), (byte) => BYTE_CHARACTERS[byte]));
  const merges: string[] = [];
  while (ids.size < 257 + count) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const pair = `${word[i - 1]} ${word[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const idsOf = (pair: string) => pair.split(' ').map((token) => ids.get(token)!);
    const [best] = [...counts].sort(([a, n], [b, m]) => {
      const [left, right] = idsOf(a);
      const [otherLeft, otherRight] = idsOf(b);
      return m - n || left - otherLeft || right - otherRight;
    });
    if (best === undefined || best[1] < minFrequency) break;
    const [left, right] = best[0].split(' ');
    if (!merges.includes(best[0])) merges.push(best[0]);
    if (!ids.has(left + right)) ids.set(left + right, ids.size);
    words = words.map((word) => merged(word, left, right));
  }
  return merges;
}

function merged(word: string[], left: string, right: string): string[] {
  const result: string[] = [];
  for (let i = 0; i < word.length; i++) {
    if (word[i] === left && word[i + 1] === right) result.push(word[i++] + right);
    else result.push(word[i]);
  }
  return result;
}

const fewLetters = fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' ', 'é', '\n'), maxLength: 300 });

describe('trainBpe', () => {
  it('merges what the definition merges, in its order, ties by the lower ids', async () => {
    await fc.assert(
      fc.asyncProperty(fewLetters, async (text) => {
        expect(mergesOf(await train(text, 30))).toEqual(mergesByDefinition(text, 30));
      }),
      { numRuns: 200 },
    );
  });

  it('merges runs of one character from the left, and counts them as they overlap', async () => {
    for (const text of ['aaa aaa', 'aaaaaaa'.repeat(5), 'aaaaabaaaab'.repeat(3)]) {
      expect(mergesOf(await train(text, 20))).toEqual(mergesByDefinition(text, 20));
    }
  });

  it('takes the lower pair of two equally frequent ones', async () => {
    expect(mergesOf(await train('xy ab\nxy\nab', 1))).toEqual(['a b']);
    expect(mergesOf(await train('xy ab\nxy\nab xy', 1))).toEqual(['x y']);
  });

  it('has the special tokens first, then the 256 bytes, then the merges', async () => {
    const tokenizer = await train('aa aa', 1, { specialTokens: ['<end>', '<user>'], vocabSize: 259 });
    const { vocab } = jsonOf(tokenizer).model;
    const tokens = Object.keys(vocab).sort((a, b) => vocab[a] - vocab[b]);
    expect(tokens.slice(0, 3)).toEqual(['<end>', '<user>', '!']);
    expect(tokens.slice(2, 258).sort()).toEqual([...BYTE_CHARACTERS].sort());
    expect(tokens[258]).toBe('aa');
    expect(tokenizer.vocabSize).toBe(259);
    expect(tokenizer.endOfText).toBe(0);
  });

  it('ends early when no pair is frequent enough', async () => {
    expect((await train('abc', 10)).vocabSize).toBe(257);
    expect(mergesOf(await train('ab ab', 10, { minFrequency: 3 }))).toEqual([]);
    expect(mergesOf(await train('abc', 10, { minFrequency: 1 }))).toEqual(['a b', 'ab c']);
  });

  it('reads each text on its own, strings as their bytes', async () => {
    const apart = await trainBpe(['ab', 'ab'], { vocabSize: 300 });
    expect(mergesOf(apart)).toEqual(['a b']);
    const bytes = await trainBpe([Buffer.from('naïve naïve')], { vocabSize: 300 });
    expect(mergesOf(bytes)).toEqual(mergesOf(await trainBpe(['naïve naïve'], { vocabSize: 300 })));
    const streamed = (async function* () {
      yield 'ab';
      yield 'ab';
    })();
    expect(mergesOf(await trainBpe(streamed, { vocabSize: 300 }))).toEqual(['a b']);
  });

  it('counts neither special tokens in the text nor bytes that are not UTF-8', async () => {
    const text = 'ab<|endoftext|>ab<|endoftext|>'.repeat(5);
    expect(mergesOf(await train(text, 10))).toEqual(['a b']);
    expect(mergesOf(await trainBpe([Uint8Array.of(0xff, 0xfe, 0xff, 0xfe)], { vocabSize: 300 }))).toEqual([]);
  });

  it('never merges text into a special token', async () => {
    const tokenizer = await train('abc abc abc', 50, { specialTokens: ['abc'], vocabSize: 300 });
    expect(mergesOf(tokenizer)).not.toContain('ab c');
    expect(Object.values(jsonOf(tokenizer).model.vocab)).toHaveLength(tokenizer.vocabSize);
  });

  it('takes names that objects have as tokens like any other', async () => {
    const text = 'constructor __proto__ constructor\n'.repeat(9);
    const tokenizer = await train(text, 60, { specialTokens: ['__proto__'], vocabSize: 300 });
    expect(tokenizer.tokenToId('constructor')).toBeTypeOf('number');
    expect(tokenizer.tokenToId('__proto__')).toBe(0);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    const engine = new HuggingFace(JSON.parse(JSON.stringify(tokenizer)), {});
    expect(engine.encode(text).ids).toEqual([...tokenizer.encode(text)]);
  });

  it('reports its progress and stops when it is aborted', async () => {
    const seen: BpeProgress[] = [];
    await trainBpe(['one two', 'one two'], { vocabSize: 260, onProgress: (progress) => seen.push(progress) });
    expect(seen[1]).toMatchObject({ phase: 'count', bytes: 14, distinctWords: 2, occurrences: 4 });
    expect(seen.at(-1)).toEqual({ phase: 'merge', tokens: 260, vocabSize: 260 });
    const reason = new Error('enough');
    const endless = (function* () {
      for (;;) yield 'more and more '.repeat(1000);
    })();
    const signal = AbortSignal.timeout(100);
    await expect(trainBpe(endless, { vocabSize: 300, signal })).rejects.toThrow(/timeout/);
    const aborted = AbortSignal.abort(reason);
    await expect(trainBpe(['x'], { vocabSize: 300, signal: aborted })).rejects.toBe(reason);
  });

  it.each([
    [{ vocabSize: 256 }, /vocabSize must be an integer >= 257, got 256/],
    [{ vocabSize: 2 ** 25 }, /vocabSize must be at most 16777216/],
    [{ vocabSize: 300, minFrequency: 0 }, /minFrequency must be an integer >= 1/],
    [{ vocabSize: 300, maxDistinctWords: 1 }, /maxDistinctWords must be an integer >= 2/],
    [{ vocabSize: 300, specialTokens: ['x', 'x'] }, /specialTokens\[0\] must not be a byte's/],
    [{ vocabSize: 300, specialTokens: ['<x>', '<x>'] }, /specialTokens\[1\] must not come twice/],
    [{ vocabSize: 300, specialTokens: [''] }, /specialTokens\[0\] must be a text/],
    [{ vocabsize: 300 }, /unknown option 'vocabsize'/],
  ])('refuses %j', async (options, message) => {
    await expect(trainBpe(['text'], options as unknown as BpeOptions)).rejects.toThrow(message);
  });

  it('wants a list of texts', async () => {
    await expect(trainBpe('text', { vocabSize: 300 })).rejects.toThrow(/iterable of texts/);
  });
});

describe('the words', () => {
  it('are the text, cut', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(splitWords(text).join('')).toBe(text);
      }),
    );
    expect(splitWords("I'll say: 10 naïve  words\n\n end")).toEqual([
      'I',
      "'ll",
      ' say',
      ':',
      ' 10',
      ' naïve',
      ' ',
      ' words',
      '\n\n',
      ' end',
    ]);
  });

  it('treat U+0085 as white space and U+FEFF as none, as Unicode does', () => {
    expect(splitWords('a\u0085b\ufeffc')).toEqual(['a', '\u0085', 'b', '\ufeff', 'c']);
  });

  it('are counted whole up to 128 units, longer ones in parts that end between characters', () => {
    const counts = new WordCounts(100);
    counts.add('-'.repeat(300));
    counts.add(`${'-'.repeat(127)}😀`);
    expect(counts.entries()).toEqual([
      ['-'.repeat(128), 2],
      ['-'.repeat(44), 1],
      ['-'.repeat(127), 1],
      ['😀', 1],
    ]);
  });

  it('stay within their bound: the rarest go, the frequent stay', () => {
    const counts = new WordCounts(10);
    for (let i = 0; i < 500; i++) counts.add(`often\nw${i.toString(36)}`);
    expect(counts.entries().length).toBeLessThanOrEqual(10);
    expect(new Map(counts.entries()).get('often')).toBe(500);
    const kept = counts.entries().reduce((sum, [, count]) => sum + count, 0);
    expect(kept + counts.state.droppedOccurrences).toBe(counts.state.occurrences);
  });
});
