import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteTokenizer, TextStream } from '../../src';

const bytes = new ByteTokenizer();

/** The pieces that a text's bytes give, flush last. */
function pieces(text: string, stop: string[]) {
  const stream = new TextStream(bytes, { stop });
  const given = Array.from(bytes.encode(text), (id) => stream.push(id));
  return { given: [...given, stream.flush()], stopped: stream.stopped };
}

describe('TextStream', () => {
  test('a stop text that spans tokens is held back, and handed out when it does not come', () => {
    const stream = new TextStream(bytes, { stop: ['END'] });
    const push = (text: string) => Array.from(bytes.encode(text), (id) => stream.push(id)).join('|');
    expect(push('xE')).toBe('x|');
    expect(push('N')).toBe('');
    expect(push('e')).toBe('ENe');
    expect(push('EEND')).toBe('|E||');
    expect(stream.stopped).toBe('END');
    expect([stream.push(65), stream.flush()]).toEqual(['', '']);
  });

  test('the earliest of several stop texts ends the stream', () => {
    expect(pieces('one\ntwo.', ['.', '\n'])).toMatchObject({ stopped: '\n' });
    expect(pieces('one\ntwo.', ['.', '\n']).given.join('')).toBe('one');
    expect(pieces('abc', ['bc', 'abcd']).given.join('')).toBe('a');
  });

  test('no piece has half a character, and what is held back at the end is handed out', () => {
    const { given, stopped } = pieces('naïve 🎈E', ['END']);
    expect(given.join('')).toBe('naïve 🎈E');
    for (const piece of given) expect(piece).not.toContain('\ufffd');
    expect(stopped).toBe(null);
    const cut = new TextStream(bytes, { stop: ['\ufffd!'] });
    expect(cut.push(0xf0) + cut.flush()).toBe('\ufffd');
  });

  test('whatever the text and the stops, the pieces are the text up to the first stop', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'é'), maxLength: 12 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'é'), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(letters, stops, (text, stop) => {
        const { given, stopped } = pieces(text, stop);
        // The stop text that is complete first; of those that end together, the one that begins first.
        const ends = stop.map((s) => ({ at: text.indexOf(s), s })).filter(({ at }) => at >= 0);
        const firstEnd = Math.min(...ends.map(({ at, s }) => at + s.length));
        const at = Math.min(...ends.filter(({ at, s }) => at + s.length === firstEnd).map((end) => end.at));
        expect(given.join('')).toBe(ends.length > 0 ? text.slice(0, at) : text);
        expect(stopped !== null).toBe(ends.length > 0);
      }),
    );
  });

  test('empty stop texts and unknown options are refused', () => {
    expect(() => new TextStream(bytes, { stop: [''] })).toThrow(/stop must be an array of texts/);
    expect(() => new TextStream(bytes, { stops: [] } as never)).toThrow(/unknown option 'stops'/);
  });
});
