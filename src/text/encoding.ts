import { isUtf8 } from 'node:buffer';
import { TextDecoder } from 'node:util';
import { SgemoeError } from '../base/errors';
import { characterLength } from './utf8';

/** Bytes of a file's beginning that are searched for UTF-16, which has a NUL in every ASCII character. */
const BEGINNING_BYTES = 8000;

/** The fewest bytes whose NULs say anything without a byte order mark. */
const FEWEST_BYTES = 16;

/** Latin-1 text has at least one byte in this many beyond ASCII; rarer ones count as damaged UTF-8 and are kept. */
const RARE = 10_000;

/**
 * Refuses text in an encoding other than UTF-8, from which a model would learn unreadable text. Binary data, and UTF-8 with
 * a few damaged bytes, pass.
 * @param bytes the whole of a file, or a part. @param first whether it begins there.
 * @throws SgemoeError SGEMOE_DATA_ENCODING, which names the file, the encoding and the remedy.
 */
export function refuseOtherEncodings(path: string, bytes: Uint8Array, first: boolean): void {
  const encoding = (first ? wideEncoding(bytes) : null) ?? (looksLikeLatin1(bytes) ? 'Latin-1' : null);
  if (encoding === null) return;
  const name = encoding === 'Latin-1' ? 'Latin-1 (ISO 8859-1 or Windows-1252)' : encoding;
  const from = encoding === 'Latin-1' ? 'WINDOWS-1252' : encoding;
  throw new SgemoeError(
    'SGEMOE_DATA_ENCODING',
    `${path} looks like ${name}, and text must be UTF-8. Convert it: iconv -f ${from} -t UTF-8 '${path}' > text.txt`,
  );
}

/** The name of UTF-16 or UTF-32, recognised by byte order mark or NULs; null for neither. */
export function wideEncoding(bytes: Uint8Array): string | null {
  const [a, b, c, d] = bytes;
  if (a === 0xff && b === 0xfe) {
    if (c === 0 && d === 0) return 'UTF-32LE';
    return isUtf16(bytes, 'utf-16le') ? 'UTF-16LE' : null;
  }
  if (a === 0xfe && b === 0xff) return isUtf16(bytes, 'utf-16be') ? 'UTF-16BE' : null;
  if (bytes.length < FEWEST_BYTES) return null;
  const [even, odd] = nulsByParity(bytes.subarray(0, BEGINNING_BYTES));
  const half = Math.min(bytes.length, BEGINNING_BYTES) / 2;
  if (even === 0 && odd > half / 2) return isUtf16(bytes, 'utf-16le') ? 'UTF-16LE' : null;
  if (odd === 0 && even > half / 2) return isUtf16(bytes, 'utf-16be') ? 'UTF-16BE' : null;
  return null;
}

/** Whether the beginning is well-formed text in this encoding, without lone surrogates and control characters. */
function isUtf16(bytes: Uint8Array, encoding: 'utf-16le' | 'utf-16be'): boolean {
  const even = Math.min(bytes.length, BEGINNING_BYTES) & ~1;
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes.subarray(0, even), { stream: true });
    return text.length > 0 && !/(?![\t\n\f\r])\p{Cc}/u.test(text);
  } catch {
    return false;
  }
}

function nulsByParity(bytes: Uint8Array): [even: number, odd: number] {
  const counts: [number, number] = [0, 0];
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === 0) counts[i & 1]++;
  return counts;
}

/** Whether bytes are mostly ASCII, and beyond it more often letters or signs of Latin-1 than characters of UTF-8. */
function looksLikeLatin1(bytes: Uint8Array): boolean {
  if (isUtf8(bytes)) return false;
  let single = 0;
  let wellFormed = 0;
  for (let i = 0; i < bytes.length; ) {
    if (bytes[i] < 0x20 && !isSpace(bytes[i])) return false;
    if (bytes[i] < 0x80) {
      i++;
      continue;
    }
    const length = characterLength(bytes, i);
    if (length > 0) wellFormed++;
    else if (bytes[i] >= 0xa0 || isWindowsSign(bytes[i])) single++;
    else if (i > 3 && i < bytes.length - 3) return false; // At the ends of the part, such a byte may belong to a character that was cut.
    i += Math.max(1, length);
  }
  return single > wellFormed && single * RARE >= bytes.length && single < bytes.length / 3;
}

function isSpace(byte: number): boolean {
  return byte >= 9 && byte <= 13;
}

/** Whether a byte is a quotation mark, dash or the like in Windows-1252, where Latin-1 has control characters. */
function isWindowsSign(byte: number): boolean {
  return byte >= 0x80 && ![0x81, 0x8d, 0x8f, 0x90, 0x9d].includes(byte);
}
