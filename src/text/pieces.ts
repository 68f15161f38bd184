import { decodeUtf8 } from './utf8';

/** Default size of a piece in bytes: large enough to make the overhead small, small enough to hold. */
export const PIECE_BYTES = 2 ** 18;

const SPACE = 0x20;

/**
 * Cuts a document into pieces of at most `pieceBytes`, at places that no token reaches across; joined they are the document.
 *
 * A cut comes before a space that doesn't follow white space, where GPT-2's pattern of words and its successors always end
 * a word. If half a piece has no such place, the cut comes before other ASCII white space, which is as good for GPT-2's
 * pattern. If it has none either, the cut comes between two characters, which may split a token.
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
 * Makes the same cuts as `cutPieces` in a document that arrives in chunks of any size. A piece is valid until the next one
 * is requested.
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
    // A copy is needed, since the source may reuse the memory of its chunk.
    rest = new Uint8Array(bytes.subarray(start));
  }
  if (rest.length > 0) yield rest;
}

/** The length, > 0, of the piece to cut from `bytes`, after which the document goes on. */
function lastCut(bytes: Uint8Array): number {
  const half = Math.floor(bytes.length / 2);
  for (let i = bytes.length - 1; i > half; i--) if (bytes[i] === SPACE && endsWord(bytes, i)) return i;
  for (let i = bytes.length - 1; i > half; i--) if (isAsciiSpace(bytes[i]) && endsWord(bytes, i)) return i;
  return lastCharacterStart(bytes);
}

/** Whether there is a character before `at` that isn't white space. */
function endsWord(bytes: Uint8Array, at: number): boolean {
  const last = bytes[at - 1];
  if (last < 0x80) return !isAsciiSpace(last);
  let start = at - 1;
  while (start > 0 && at - start < 4 && (bytes[start] & 0xc0) === 0x80) start--;
  return !/[\s\x85]$/u.test(decodeUtf8(bytes.subarray(start, at)));
}

/** The start of the last character, where a cut doesn't split it; the end if that would leave nothing. */
function lastCharacterStart(bytes: Uint8Array): number {
  let start = bytes.length - 1;
  while (start > 0 && bytes.length - start < 4 && (bytes[start] & 0xc0) === 0x80) start--;
  return start === 0 ? bytes.length : start;
}

function isAsciiSpace(byte: number): boolean {
  return byte === SPACE || (byte >= 9 && byte <= 13);
}
