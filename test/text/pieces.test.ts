import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitWords } from '../../src/text/bpe/words';
import { cutPieces, cutStream } from '../../src/text/pieces';
import { utf8Segments } from '../../src/text/utf8';

const texts = fc
  .array(
    fc.constantFrom(
      'word',
      "don't",
      ' ',
      '  ',
      '\n',
      '\r\n',
      '\u3000',
      '全角',
      '😀',
      '42',
      '...',
      '\u00a0',
      '\u0085',
    ),
    {
      maxLength: 60,
    },
  )
  .map((parts) => parts.join(''));
const textOf = (pieces: Uint8Array[]) => pieces.map((piece) => Buffer.from(piece).toString('utf8'));

describe('pieces', () => {
  it('are the document, each no longer than asked', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 200 }), texts.map(Buffer.from)),
        fc.integer({ min: 4, max: 40 }),
        (bytes, size) => {
          const pieces = [...cutPieces(bytes, size)];
          expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
          for (const piece of pieces) expect(piece.length > 0 && piece.length <= size).toBe(true);
        },
      ),
    );
  });

  it('never go through a character', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 60 }),
        fc.integer({ min: 4, max: 20 }),
        (text, size) => {
          expect(textOf([...cutPieces(Buffer.from(text), size)]).join('')).toBe(text);
        },
      ),
    );
  });

  it('end where a word ends, when half a piece has a space or a line end behind a word', () => {
    fc.assert(
      fc.property(texts, (text) => {
        // Any 20 bytes of these parts have such a place.
        const spaced = text.replaceAll(/(\S{1,3})/gu, '$1 x\n');
        const pieces = textOf([...cutPieces(Buffer.from(spaced), 64)]);
        expect(pieces.flatMap(splitWords)).toEqual(splitWords(spaced));
      }),
    );
    const pieces = textOf([...cutPieces(Buffer.from('one two  three\n\nfour five'), 12)]);
    expect(pieces).toEqual(['one two', '  three', '\n\nfour five']);
  });

  it('are cut the same however the document arrives', async () => {
    await fc.assert(
      fc.asyncProperty(texts, fc.integer({ min: 1, max: 30 }), async (text, chunk) => {
        const bytes = Buffer.from(text);
        const chunks = (async function* () {
          // One buffer for all chunks, as a reader may do.
          const buffer = Buffer.alloc(chunk);
          for (let start = 0; start < bytes.length; start += chunk) {
            yield buffer.subarray(0, bytes.copy(buffer, 0, start, start + chunk));
          }
        })();
        const streamed: string[] = [];
        for await (const piece of cutStream(chunks, 16)) streamed.push(Buffer.from(piece).toString());
        expect(streamed).toEqual(textOf([...cutPieces(bytes, 16)]));
      }),
    );
  });
});

describe('segments of UTF-8', () => {
  it('are the bytes: texts that are UTF-8, and single bytes that belong to none', () => {
    const mixed = fc
      .array(
        fc.oneof(
          fc.uint8Array({ maxLength: 4 }),
          fc.string({ unit: 'binary', maxLength: 3 }).map(Buffer.from),
        ),
        {
          maxLength: 10,
        },
      )
      .map((parts) => Buffer.concat(parts));
    fc.assert(
      fc.property(mixed, (bytes) => {
        const segments = [...utf8Segments(bytes)];
        const joined = segments.map((part) =>
          typeof part === 'number' ? Buffer.of(part) : Buffer.from(part),
        );
        expect(Buffer.concat(joined).equals(bytes)).toBe(true);
      }),
    );
    expect([...utf8Segments(Buffer.of(0x41, 0xc3, 0xa9, 0xc3, 0xed, 0xa0, 0x80, 0x42))]).toEqual([
      'Aé',
      0xc3,
      0xed,
      0xa0,
      0x80,
      'B',
    ]);
  });
});
