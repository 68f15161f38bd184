import { decodeUtf8 } from './utf8';

/** Long enough to make the work per piece small, short enough to hold. */
export const PIECE_BYTES = 2 ** 18;

const SPACE = 0x20;

/**
 * Cuts a document where no token can reach across, into pieces of at most `pieceBytes`; joined they are the document.
 *
 * A cut is made before a space that follows something else than white space, since there both GPT-2's expression for
 * words and its successors always end a word. Where half a piece has no such place, before other ASCII white space, which
 * is as good for GPT-2's; where it has none either, between two characters: then what would have been one token may
 * become two.
 */
export function* cutPieces(bytes: Uint8Array, pieceBytes = PIECE_BYTES): Generator<Uint8Array, void> {
  let start = 0;
  while (bytes.length - start > pieceBytes) {
    const end = start + lastCut(bytes.subarray(start, start + pieceBytes));
    yield bytes.subarray(start, end);
    start = end;
  }
  if (start < bytes.length) yield bytes.subarray(start);
}

/**
 * As `cutPieces`, with the same cuts, for a document that arrives in chunks of any size. A piece is valid until the next
 * one is asked for.
 */
export async function* cutStream(
  chunks: AsyncIterable<Uint8Array>,
  pieceBytes = PIECE_BYTES,
): AsyncGenerator<Uint8Array, void> {
  let rest: Uint8Array = new Uint8Array(0);
  for await (const chunk of chunks) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    while (bytes.length - start > pieceBytes) {
      const end = start + lastCut(bytes.subarray(start, start + pieceBytes));
      yield bytes.subarray(start, end);
      start = end;
    }
    // A copy: the source may use the memory of its chunk again.
    rest = new Uint8Array(bytes.subarray(start));
  }
  if (rest.length > 0) yield rest;
}

/** Where to end a piece that begins with `bytes` and goes on after them; > 0. */
function lastCut(bytes: Uint8Array): number {
  const half = Math.floor(bytes.length / 2);
  for (let i = bytes.length - 1; i > half; i--) if (bytes[i] === SPACE && endsWord(bytes, i)) return i;
  for (let i = bytes.length - 1; i > half; i--) if (isAsciiSpace(bytes[i]) && endsWord(bytes, i)) return i;
  return lastCharacterStart(bytes);
}

/** Whether the character before `at` is there and no white space. */
function endsWord(bytes: Uint8Array, at: number): boolean {
  const last = bytes[at - 1];
  if (last < 0x80) return !isAsciiSpace(last);
  let start = at - 1;
  while (start > 0 && at - start < 4 && (bytes[start] & 0xc0) === 0x80) start--;
  return !/[\s\x85]$/u.test(decodeUtf8(bytes.subarray(start, at)));
}

/** Start of the last character, so that the cut does not go through it; the end where that would leave nothing. */
function lastCharacterStart(bytes: Uint8Array): number {
  let start = bytes.length - 1;
  while (start > 0 && bytes.length - start < 4 && (bytes[start] & 0xc0) === 0x80) start--;
  return start === 0 ? bytes.length : start;
}

function isAsciiSpace(byte: number): boolean {
  return byte === SPACE || (byte >= 9 && byte <= 13);
}
