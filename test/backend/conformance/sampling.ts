import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { type Dice, everywhere, grid, type Scene } from './harness';

const INF = Number.POSITIVE_INFINITY;
const U32 = 2 ** 32;

/** An exponential of float32 is off by some 1e-7; borders nearer than this may fall either way. */
const BORDER = 1e-5;

interface Settings {
  temperature: number;
  topP: number;
  minP: number;
  topK: number;
  bits: number;
}

/** The columns that may be drawn: more than one only where a border is too near to tell. */
function allowed(logits: Float64Array, { temperature, topP, minP, topK, bits }: Settings): Set<number> {
  const columns = Array.from(logits.keys()).filter((c) => logits[c] > -INF);
  const order = columns.sort((a, b) => logits[b] - logits[a] || a - b);
  if (order.length === 0) return new Set([-1]);
  if (temperature === 0) return new Set([order[0]]);
  const largest = logits[order[0]];
  const weight = (c: number) => (logits[c] === largest ? 1 : Math.exp((logits[c] - largest) / temperature));
  const sum = (list: readonly number[]) => list.reduce((total, c) => total + weight(c), 0);
  let kept = topK >= 1 ? order.slice(0, topK) : order;
  const ends = [kept.length];
  if (topP < 1) {
    const target = topP * sum(kept);
    let mass = 0;
    ends.length = 0;
    for (const [i, c] of kept.entries()) {
      mass += weight(c);
      if (mass >= target * (1 - BORDER)) ends.push(i + 1);
      if (mass >= target * (1 + BORDER)) break;
    }
    if (ends.length === 0) ends.push(kept.length);
  }
  const drawn = new Set<number>();
  for (const end of ends) {
    kept = order.slice(0, end).filter((c) => weight(c) >= minP * (1 - BORDER));
    kept.sort((a, b) => a - b);
    const total = sum(kept);
    const point = (bits / U32) * total;
    let before = 0;
    for (const c of kept) {
      const after = before + weight(c);
      if (point >= before - BORDER * total && point <= after + BORDER * total) drawn.add(c);
      before = after;
    }
  }
  return drawn;
}

function check(
  k: Kernels,
  scene: Scene,
  dice: Dice,
  rows: number,
  cols: number,
  logitsOf: () => number,
  settingsOf: (dice: Dice) => Settings,
): number {
  const ld = cols + 3;
  const values = Float64Array.from({ length: rows * cols }, () => Math.fround(logitsOf()));
  const each = Array.from({ length: rows }, () => settingsOf(dice));
  const logits = scene.floats('logits', values, grid(rows, cols, ld));
  const settings = scene.floats(
    'settings',
    each.flatMap(({ temperature, topP, minP }) => [temperature, topP, minP]),
  );
  const choices = scene.ints(
    'choices',
    each.flatMap(({ topK, bits }) => [topK, bits | 0]),
  );
  const tokens = scene.ints('tokens', new Array(rows).fill(-7));
  const label = `sampleRows [${rows},${cols}] ${scene.place.name}`;
  k.sampleRows(
    logits.array,
    logits.at,
    ld,
    settings.array,
    settings.at,
    choices.array,
    choices.at,
    tokens.array,
    tokens.at,
    rows,
    cols,
  );
  const got = tokens.read();
  let certain = 0;
  for (const [r, own] of each.entries()) {
    const exact = { ...own, temperature: Math.fround(own.temperature), topP: Math.fround(own.topP) };
    const may = allowed(values.slice(r * cols, (r + 1) * cols), exact);
    if (may.size === 1) certain++;
    expect([...may], `${label}, row ${r}: ${JSON.stringify(own)}`).toContain(got[r]);
  }
  scene.expectOnlyWritten(label, tokens);
  return certain;
}

const bitsOf = (dice: Dice) => dice.int(U32);
const PLAIN = { temperature: 1, topP: 1, minP: 0, topK: 0 };

export function samplingConformance(kernels: () => Kernels): void {
  const one = (logits: number[], settings: Partial<Settings>) => {
    const { temperature, topP, minP, topK, bits } = { ...PLAIN, bits: 0, ...settings };
    const tokens = new Int32Array(1);
    kernels().sampleRows(
      Float32Array.from(logits),
      0,
      logits.length,
      Float32Array.of(temperature, topP, minP),
      0,
      Int32Array.of(topK, bits | 0),
      0,
      tokens,
      0,
      1,
      logits.length,
    );
    return tokens[0];
  };

  describe('sampleRows', () => {
    const shapes = [
      [0, 4],
      [1, 1],
      [3, 2],
      [2, 15],
      [2, 64],
      [3, 65],
      [4, 1000],
      [2, 1025],
      [3, 5000],
    ];
    const kinds: Record<string, (dice: Dice) => Settings> = {
      'the whole row': (dice) => ({ ...PLAIN, temperature: 0.1 + dice.next(), bits: bitsOf(dice) }),
      'the topK': (dice) => ({ ...PLAIN, topK: 1 + dice.int(50), bits: bitsOf(dice) }),
      'a nucleus': (dice) => ({ ...PLAIN, topP: dice.next(), bits: bitsOf(dice) }),
      'a nucleus of the topK, above minP': (dice) => ({
        temperature: 0.5 + dice.next(),
        topP: 0.5 + dice.next() / 2,
        minP: 0.01 * dice.next(),
        topK: 1 + dice.int(2000),
        bits: bitsOf(dice),
      }),
      'the largest': (dice) => ({ ...PLAIN, temperature: 0, bits: bitsOf(dice) }),
    };
    for (const [name, settingsOf] of Object.entries(kinds)) {
      it(`draws from ${name}: peaked, flat and tied logits`, () => {
        let certain = 0;
        let rowsInAll = 0;
        for (const [rows, cols] of shapes) {
          everywhere(rows + cols, (scene, dice) => {
            const logitsOf = [
              () => 10 * (dice.next() + dice.next() + dice.next() - 1.5),
              () => 0.01 * dice.next(),
              () => Math.round(8 * dice.next()) / 2,
            ][(rows + cols) % 3];
            certain += check(kernels(), scene, dice, rows, cols, logitsOf, settingsOf);
            rowsInAll += rows;
          });
        }
        // Most rows have one right answer, so that the test can fail.
        expect(certain).toBeGreaterThan(rowsInAll / 2);
      });
    }

    it('takes the lower column of equal ones, at every border', () => {
      for (const cols of [4, 70, 200]) {
        const equal = new Array(cols).fill(1);
        expect(one(equal, { temperature: 0 })).toBe(0);
        expect(one(equal, { topK: 1, bits: U32 - 1 })).toBe(0);
        expect(one(equal, { topK: 3, bits: U32 - 1 })).toBe(2);
        expect(one(equal, { topP: 0, bits: U32 - 1 })).toBe(0);
        expect(one(equal, { topP: 2.5 / cols, bits: U32 - 1 })).toBe(2);
        expect(one(equal, { bits: U32 - 1 })).toBe(cols - 1);
      }
    });

    it('never draws NaN or -Infinity, and tells that nothing is left', () => {
      const odd = [Number.NaN, -INF, 2, Number.NaN, -INF];
      for (const bits of [0, U32 / 2, U32 - 1]) {
        for (const more of [{}, { temperature: 0 }, { topK: 9 }, { topP: 0.5 }, { minP: 1 }]) {
          expect(one(odd, { bits, ...more })).toBe(2);
        }
      }
      for (const temperature of [0, 1]) expect(one([Number.NaN, -INF], { temperature })).toBe(-1);
      expect(one([1, INF, 3, INF], { bits: U32 - 1 })).toBe(3);
      expect(one([1, INF, 3, INF], { bits: 0, temperature: 1e-45 })).toBe(1);
    });
  });
}
