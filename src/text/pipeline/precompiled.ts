import { decodeUtf8 } from '../utf8';
import type { Settings } from './settings';

/** The longest grapheme, in bytes, that is looked up as a whole; longer ones are looked up by character. */
const MOST_GRAPHEME_BYTES = 5;

const MOST_CACHED = 10_000;

/**
 * Runs of ASCII, in which each character is a grapheme, and (captured) other text. It avoids the slow search for graphemes
 * in ASCII.
 */
const STRETCHES =
  /(?:(?<![^\0-\x7f])(?!\r\n)(?<!\r(?=\n))[\0-\x7f](?![^\0-\x7f]))+|((?:\r\n|[^\0-\x7f]|(?<=[^\0-\x7f])[\0-\x7f]|[\0-\x7f](?=[^\0-\x7f]))+)/gu;

/**
 * Reads the compiled rules of SentencePiece's normalizers (nmt_nfkc and others): a double-array trie (Darts-clone) from
 * UTF-8 to places in a list of texts that end with NUL. The layout is the trie's length in bytes (uint32), the trie's uint32
 * units, the texts; all little-endian. The shortest rule that matches the beginning of a grapheme replaces the whole
 * grapheme, as in Hugging Face's `tokenizers`.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID for a charsmap of another form.
 */
export function readPrecompiled(settings: Settings): (text: string) => string {
  const source = settings.string('precompiled_charsmap');
  const map = Buffer.from(source, 'base64');
  const trieBytes = map.length < 4 ? Number.NaN : map.readUInt32LE(0);
  if (!(trieBytes % 4 === 0 && trieBytes > 0 && 4 + trieBytes <= map.length)) {
    settings.refuse('precompiled_charsmap', "SentencePiece's rules in base64");
  }
  const units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => map.readUInt32LE(4 + 4 * i));
  const texts = map.subarray(4 + trieBytes);
  const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
  const replace = (part: string) => {
    const at = findRule(units, Buffer.from(part, 'utf8'));
    if (at === null || at >= texts.length) return null;
    const end = texts.indexOf(0, at);
    return decodeUtf8(texts.subarray(at, end < 0 ? texts.length : end));
  };
  const cache = new Map<string, string>();
  const normalizeGrapheme = (grapheme: string) => {
    const whole = Buffer.byteLength(grapheme) <= MOST_GRAPHEME_BYTES ? replace(grapheme) : null;
    return whole ?? Array.from(grapheme, (character) => replace(character) ?? character).join('');
  };
  const remembered = (grapheme: string) => {
    let normalized = cache.get(grapheme);
    if (normalized === undefined) {
      normalized = normalizeGrapheme(grapheme);
      if (cache.size < MOST_CACHED) cache.set(grapheme, normalized);
    }
    return normalized;
  };
  return (text) => {
    let normalized = '';
    for (const [stretch, other] of text.matchAll(STRETCHES)) {
      if (other === undefined) for (const character of stretch) normalized += remembered(character);
      else for (const { segment } of segmenter.segment(other)) normalized += remembered(segment);
    }
    return normalized;
  };
}

/** The value of the shortest key of the trie that is a prefix of `key`; null for none. */
function findRule(units: Uint32Array, key: Uint8Array): number | null {
  let at = offsetOf(units[0]);
  for (const byte of key) {
    if (byte === 0) return null;
    at ^= byte;
    const unit = units[at];
    if (unit === undefined || (unit & 0x800000ff) !== byte) return null;
    at ^= offsetOf(unit);
    if (((unit >>> 8) & 1) === 1) return at < units.length ? units[at] & 0x7fffffff : null;
  }
  return null;
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
}
