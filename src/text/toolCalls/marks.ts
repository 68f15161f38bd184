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

/** From it on, bytes are in no UTF-8. */
const FIRST_BYTE = 0xf8;

/** A byte for each mark, which no UTF-8 has: so a constraint tells the token from its text. */
export function byteOfMark(mark: string): number {
  return FIRST_BYTE + (TOOL_CALL_MARKS as readonly string[]).indexOf(mark);
}

/**
 * `tokenBytes()` for constraints, in which special tokens that are marks have a byte of their own. No other token has it: those
 * with such a byte can't be part of a text.
 */
export function constraintBytes(tokenizer: Tokenizer): (Uint8Array | null)[] {
  const isText = (bytes: Uint8Array) => bytes.every((byte) => byte < FIRST_BYTE);
  const all = tokenizer.tokenBytes().map((bytes) => (bytes !== null && isText(bytes) ? bytes : null));
  for (const [id, mark] of markTokens(tokenizer)) all[id] = Uint8Array.of(byteOfMark(mark));
  return all;
}
