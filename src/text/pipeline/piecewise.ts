import type { AddedToken } from './addedTokens';
import type { PreTokenizer } from './preTokenizers';

/** Ends of a piece: an example of each kind of character that patterns of words distinguish. */
const ENDS = ['a', 'B', 'é', "'s", '1', '123', '.', '!?', '_', '漢', 'नि', '😀', '\n.', ' 1', ' a'];
const BEGINNINGS = [
  ' ',
  '  ',
  ' a',
  ' B',
  ' é',
  " 's",
  ' 1',
  ' 123',
  ' .',
  ' _',
  ' 漢',
  ' 😀',
  '  a',
  ' \n',
  ' \r\n1',
  '   .',
];

/**
 * Whether a long text may be cut before a space that doesn't follow white space: no word reaches across, which is tried with
 * every kind of character on both sides, and no added token depends on its surroundings. Only byte-level tokenizers are
 * checked; others always see whole texts.
 */
export function isPiecewise(
  { preTokenize, byteLevel, addsSpace }: PreTokenizer,
  added: readonly AddedToken[],
  normalizes: boolean,
): boolean {
  if (!byteLevel || addsSpace || !added.every((token) => isPlain(token, normalizes))) return false;
  const wordsOf = (text: string) => preTokenize({ words: [text], first: true }).words.join('\0');
  return ENDS.every((end) =>
    BEGINNINGS.every((beginning) => wordsOf(end + beginning) === `${wordsOf(end)}\0${wordsOf(beginning)}`),
  );
}

/** Whether a token matches only its own text, whatever surrounds it. */
function isPlain(token: AddedToken, normalizes: boolean): boolean {
  const { content, lstrip, rstrip, singleWord, normalized } = token;
  if (lstrip || rstrip || singleWord || /[\p{White_Space}]/u.test(content)) return false;
  return !normalizes || !normalized || /^[\x21-\x7e]*$/.test(content);
}
