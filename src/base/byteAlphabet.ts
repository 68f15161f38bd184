/**
 * The byte alphabet of byte-level BPE (Radford et al. 2019, GPT-2): a printable character for each of the 256 bytes, so
 * that a vocabulary of bytes is a vocabulary of strings. The 188 bytes that are visible in Latin-1 stand for themselves,
 * the other 68, in ascending order, are U+0100 and up; so the space is 'Ġ'.
 */
export const BYTE_CHARACTERS: readonly string[] = buildAlphabet();

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(
  BYTE_CHARACTERS.map((character, byte) => [character, byte]),
);

/** 'Ġa' for ' a'. */
export function bytesToCharacters(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += BYTE_CHARACTERS[byte];
  return text;
}

/** The bytes of a token's string; null if the string has a character outside the alphabet. */
export function charactersToBytes(characters: string): Uint8Array | null {
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < characters.length; i++) {
    const byte = BYTE_OF_CHARACTER.get(characters[i]);
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}

function buildAlphabet(): string[] {
  let unprintable = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(visible ? byte : 0x100 + unprintable++);
  });
}
