/** How the playground finds which token wrote which piece of the text. */
import { describe, expect, test } from 'vitest';
import { Aligner } from '../../src/serve/page/align.js';

const tokens = (...texts: string[]) => texts.map((text) => ({ text }));
const HALF = '\ufffd';

describe('pieces of text and their tokens', () => {
  test('each token gets its own text, however the chunks are cut', () => {
    const aligner = new Aligner();
    expect(aligner.add(tokens('on', ' a'), 'on a')).toEqual([
      { text: 'on', token: 0 },
      { text: ' a', token: 1 },
    ]);
    expect(aligner.add(tokens('n'), 'n')).toEqual([{ text: 'n', token: 2 }]);
  });

  test('text that comes late goes to its token', () => {
    const aligner = new Aligner();
    expect(aligner.add(tokens('\n', 'us'), '')).toEqual([]);
    expect(aligner.add(tokens('e'), '\nus')).toEqual([
      { text: '\n', token: 0 },
      { text: 'us', token: 1 },
    ]);
    expect(aligner.add([], 'e')).toEqual([{ text: 'e', token: 2 }]);
  });

  test('a character of several tokens is one piece, of the last of them', () => {
    const aligner = new Aligner();
    expect(aligner.add(tokens('a', HALF, HALF), 'aé')).toEqual([{ text: 'a', token: 0 }]);
    expect(aligner.text).toBe('é');
    expect(aligner.add(tokens('b'), 'b')).toEqual([
      { text: 'é', token: 2 },
      { text: 'b', token: 3 },
    ]);
  });

  test('a token without text is skipped', () => {
    const aligner = new Aligner();
    expect(aligner.add(tokens('', 'x'), 'x')).toEqual([{ text: 'x', token: 1 }]);
  });

  test('text that a token alone does not have, such as a space before it, goes with it', () => {
    const aligner = new Aligner();
    expect(aligner.add(tokens('the'), ' the')).toEqual([{ text: ' the', token: 0 }]);
  });

  test('text that belongs to no known token comes at the end', () => {
    const aligner = new Aligner();
    expect(aligner.add(tokens('a', HALF), 'a')).toEqual([{ text: 'a', token: 0 }]);
    expect(aligner.add([], HALF)).toEqual([]);
    expect(aligner.flush()).toEqual([{ text: HALF, token: 1 }]);
    expect(aligner.flush()).toEqual([]);
  });
});
