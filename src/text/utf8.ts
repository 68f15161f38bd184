import { isUtf8 } from 'node:buffer';

/** Bytes of UTF-8 as text; a leading U+FEFF stays. */
export function decodeUtf8(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
}

/**
 * Cuts bytes into texts where they are UTF-8, and numbers for the single bytes in between that aren't. Nothing is lost:
 * the UTF-8 of the texts and the bytes, joined, are `bytes`.
 */
export function* utf8Segments(bytes: Uint8Array): Generator<string | number, void> {
  if (isUtf8(bytes)) {
    if (bytes.length > 0) yield decodeUtf8(bytes);
    return;
  }
  let start = 0;
  for (let i = 0; i < bytes.length; ) {
    const length = characterLength(bytes, i);
    if (length > 0) {
      i += length;
      continue;
    }
    if (i > start) yield decodeUtf8(bytes.subarray(start, i));
    yield bytes[i++];
    start = i;
  }
  if (bytes.length > start) yield decodeUtf8(bytes.subarray(start));
}

/** The number of bytes of the well-formed character at `at`; 0 if there is none. */
export function characterLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at];
  if (first < 0x80) return 1;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + length > bytes.length) return 0;
  return isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}

/** Whether fewer than 4 bytes are an incomplete beginning of a well-formed character. */
export function couldBeCharacter(bytes: Uint8Array): boolean {
  const first = bytes[0];
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || bytes.length >= length) return false;
  // The lowest or the highest continuation bytes complete the character, whatever the second byte's range is.
  const ends = [0x80, 0xbf].map((byte) => Uint8Array.from({ length }, (_, i) => bytes[i] ?? byte));
  return ends.some((whole) => isUtf8(whole));
}
