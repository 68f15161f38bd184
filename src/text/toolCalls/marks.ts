import type { Tokenizer } from '../tokenizer';
import { TOOL_CALL_MARKS } from './formats';

/**
 * The tokenizer's special tokens that are marks of calls, by id: texts without special tokens hide them, which a parser must
 * see.
 */
export function markTokens(tokenizer: Pick<Tokenizer, 'encode' | 'decode'>): Map<number, string> {
  const marks = new Map<number, string>();
  for (const mark of TOOL_CALL_MARKS) {
    const ids = tokenizer.encode(mark);
    if (ids.length === 1 && tokenizer.decode(ids, { skipSpecialTokens: true }) === '')
      marks.set(ids[0], mark);
  }
  return marks;
}

/** A byte for each mark, which no UTF-8 has: so a constraint tells the token from its text. */
export function byteOfMark(mark: string): number {
  return 0xf8 + TOOL_CALL_MARKS.findIndex((each) => each === mark);
}

/** `tokenBytes()` for constraints, in which special tokens that are marks have a byte of their own. */
export function constraintBytes(tokenizer: Tokenizer): (Uint8Array | null)[] {
  const bytes = [...tokenizer.tokenBytes()];
  for (const [id, mark] of markTokens(tokenizer)) bytes[id] = Uint8Array.of(byteOfMark(mark));
  return bytes;
}
