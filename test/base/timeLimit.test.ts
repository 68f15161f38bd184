import { describe, expect, it } from 'vitest';
import { withinTime } from '../../src/base/timeLimit';

const late = () => new Error('late');
/** Something that only ends if it is stopped. */
const FOR_EVER: [string, () => unknown][] = [
  [
    'a loop',
    () => {
      for (;;);
    },
  ],
  ['a regular expression', () => /^(a+)+$/.test(`${'a'.repeat(60)}b`)],
  [
    'a recursion that is caught',
    () => {
      const again = (): void => {
        try {
          again();
        } catch {}
        again();
      };
      again();
    },
  ],
];

describe('withinTime', () => {
  it('returns what the function returns, and throws what it throws', () => {
    expect(withinTime(1000, () => 5, late)).toBe(5);
    expect(withinTime(1000, () => undefined, late)).toBeUndefined();
    const thrown = new TypeError('own');
    const run = () =>
      withinTime(
        1000,
        () => {
          throw thrown;
        },
        late,
      );
    expect(run).toThrow(thrown);
  });

  it.each(FOR_EVER)('stops %s, and runs the next function', (_what, run) => {
    expect(() => withinTime(30, run, late)).toThrow('late');
    expect(withinTime(1000, () => 'next', late)).toBe('next');
  });

  it('can stand within another one', () => {
    const inner = () => withinTime(20, FOR_EVER[0][1], () => new Error('inner'));
    expect(() => withinTime(10_000, inner, late)).toThrow('inner');
  });
});
