import { describe, expect, it } from 'vitest';
import { PromptLookup } from '../../src/sampling/promptLookup';

function lookupOf(text: string, most = 8): PromptLookup {
  const lookup = new PromptLookup(most);
  for (const letter of text) lookup.add(letter.charCodeAt(0));
  return lookup;
}

/** The guessed text. */
function draftOf(lookup: PromptLookup, room = 100): string {
  const count = lookup.draft(room);
  return String.fromCharCode(...lookup.guesses.subarray(0, count));
}

describe('PromptLookup', () => {
  it('guesses what followed the last tokens earlier', () => {
    expect(draftOf(lookupOf('the cat sat; the '))).toBe('cat sat;');
  });

  it('takes the longest match, of equally long ones the latest', () => {
    expect(draftOf(lookupOf('xab1234567 yab7654321 xab', 3))).toBe('123');
    expect(draftOf(lookupOf('ab1 ab2 ab', 1))).toBe('2');
  });

  it('guesses nothing without a match of two tokens', () => {
    for (const text of ['', 'a', 'aa', 'ab', 'abcdefgb']) expect(draftOf(lookupOf(text))).toBe('');
  });

  it('goes on with a repetition beyond the end of the text', () => {
    expect(draftOf(lookupOf('abcabc'))).toBe('abcabcab');
    expect(draftOf(lookupOf('aaa'))).toBe('aaaaaaaa');
  });

  it('guesses no more than there is room for, and fewer after wrong ones', () => {
    const lookup = lookupOf('abcabc');
    expect(draftOf(lookup, 3)).toBe('abc');
    expect(draftOf(lookup, 0)).toBe('');
    expect(draftOf(lookup, -1)).toBe('');
    lookup.settle(8, 3);
    expect(draftOf(lookup)).toBe('abc');
    lookup.settle(3, 3);
    expect(draftOf(lookup)).toBe('abcabc');
  });

  it('rests ever longer while the first guess is wrong, and is as before after a right one', () => {
    const lookup = lookupOf('abcabc');
    const rests = [1, 2, 3, 4, 5, 6].map(() => {
      lookup.settle(1, 0);
      let rest = 0;
      while (draftOf(lookup) === '') rest++;
      return rest;
    });
    expect(rests).toEqual([1, 3, 7, 15, 31, 31]);
    lookup.settle(1, 1);
    expect(draftOf(lookup)).toBe('ab');
  });
});
