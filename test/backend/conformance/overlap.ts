import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { IN_PLACE, type KernelName, readSignatures, type Signature, WRITTEN } from './contract';
import { argumentsOf, VALID } from './validArguments';

type Values = Record<string, unknown>;
type Numbers = Float32Array | Int32Array | Uint8Array;

const isArray = (value: unknown): value is Numbers => ArrayBuffer.isView(value);

/** Valid arguments, with floats that differ from each other; rmsNormBackward in the mode that may work in place. */
function validOf(kernel: KernelName): Values {
  const values = VALID[kernel as keyof typeof VALID]();
  let next = 0;
  for (const value of Object.values(values)) {
    if (value instanceof Float32Array)
      for (let i = 0; i < value.length; i++) value[i] = 0.25 + (next++ % 97) / 64;
  }
  return kernel === 'rmsNormBackward' ? { ...values, accumulateDx: false } : values;
}

function call(kernels: Kernels, signature: Signature, values: Values): unknown {
  const kernel = kernels[signature.kernel] as (...list: unknown[]) => unknown;
  return kernel(...argumentsOf(kernels, signature, values));
}

/** Its length in words of 4 bytes. */
const wordsOf = (array: Numbers): number => array.byteLength / 4;

/** The arguments with `moved` in one buffer with `fixed`, `shift` words behind its beginning. */
function overlay(
  values: Values,
  moved: string,
  fixed: string,
  shift: number,
): { values: Values; buffer: ArrayBuffer } {
  const a = values[moved] as Numbers,
    b = values[fixed] as Numbers;
  const buffer = new ArrayBuffer(4 * (2 * wordsOf(a) + wordsOf(b)));
  const placed = (x: Numbers, at: number): Numbers =>
    new (x.constructor as Float32ArrayConstructor)(buffer, 4 * at, x.length);
  const views = { [moved]: placed(a, wordsOf(a) + shift), [fixed]: placed(b, wordsOf(a)) };
  // Integers come last: as indices they must stay valid, or the call ends before the check.
  for (const name of [moved, fixed].sort((x) => (values[x] instanceof Int32Array ? 1 : -1))) {
    views[name].set(values[name] as Numbers);
  }
  return { values: { ...values, ...views }, buffer };
}

/** Arrays of one call that share memory: refused wherever one of them is written, unless kernels.ts allows it. */
export function overlapConformance(kernels: () => Kernels): void {
  describe('overlap', () => {
    const signatures = readSignatures().filter(({ kernel }) => WRITTEN[kernel] !== undefined);

    it('is tested for every kernel that writes an array', () => {
      for (const signature of readSignatures()) {
        if (
          ['setThreads', 'adviseHugePages', 'alignmentPadding', 'storedMatrices'].includes(signature.kernel)
        )
          continue;
        const values = validOf(signature.kernel);
        const arrays = Object.entries(values).filter(([, value]) => isArray(value)) as [string, Numbers][];
        const before = new Map(arrays.map(([name, array]) => [name, array.slice()]));
        call(kernels(), signature, values);
        const changed = arrays.filter(([name, array]) =>
          array.some((x, i) => !Object.is(x, before.get(name)![i])),
        );
        expect(changed.map(([name]) => name).sort(), signature.kernel).toEqual(
          [...(WRITTEN[signature.kernel] ?? [])].sort(),
        );
      }
    });

    for (const signature of signatures) {
      const { kernel, parameters } = signature;
      const written = WRITTEN[kernel]!;
      const arrays = parameters.filter(({ type }) => type.includes('Array')).map(({ name }) => name);
      const pairs = written.flatMap((name) =>
        arrays.filter((other) => other !== name).map((other) => [name, other]),
      );

      it(`${kernel}: an array that is written and overlaps another is a RangeError that names both`, () => {
        for (const [name, other] of pairs) {
          const lengthOf = (array: string): number => wordsOf(validOf(kernel)[array] as Numbers);
          for (const shift of [1 - lengthOf(name), 0, lengthOf(other) - 1]) {
            const inPlace = IN_PLACE.some((p) => p[0] === kernel && p[1] === name && p[2] === other);
            if (inPlace && shift === 0) continue;
            const { values, buffer } = overlay(validOf(kernel), name, other, shift);
            const before = buffer.slice(0);
            const message = new RegExp(
              `^${kernel}: (${name} must not overlap ${other}|${other} must not overlap ${name})$`,
            );
            expect(() => call(kernels(), signature, values), `${name} on ${other}, ${shift}`).toThrow(
              expect.objectContaining({ name: 'RangeError', message: expect.stringMatching(message) }),
            );
            expect(new Uint8Array(buffer)).toEqual(new Uint8Array(before));
          }
        }
      });

      it(`${kernel}: arrays that touch are taken, and give what they give apart`, () => {
        for (const [name, other] of pairs) {
          const apart = validOf(kernel);
          call(kernels(), signature, apart);
          for (const shift of [
            -wordsOf(validOf(kernel)[name] as Numbers),
            wordsOf(validOf(kernel)[other] as Numbers),
          ]) {
            const { values } = overlay(validOf(kernel), name, other, shift);
            call(kernels(), signature, values);
            for (const array of arrays)
              expect(values[array], `${name} beside ${other}: ${array}`).toEqual(apart[array]);
          }
        }
      });
    }

    for (const [kernel, out, input] of IN_PLACE) {
      it(`${kernel}: ${out} may be ${input}`, () => {
        const signature = signatures.find((s) => s.kernel === kernel)!;
        const apart = validOf(kernel);
        call(kernels(), signature, apart);
        const { values } = overlay(validOf(kernel), out, input, 0);
        (values[input] as Float32Array).set(validOf(kernel)[input] as Float32Array);
        call(kernels(), signature, values);
        expect(values[out]).toEqual(apart[out]);
      });
    }

    it('rmsNormBackward: dx may not be dy when it accumulates', () => {
      const signature = signatures.find((s) => s.kernel === 'rmsNormBackward')!;
      const { values } = overlay({ ...validOf('rmsNormBackward'), accumulateDx: true }, 'dx', 'dy', 0);
      expect(() => call(kernels(), signature, values)).toThrow(/^rmsNormBackward: dx must not overlap dy$/);
    });

    it('in place means the same rows: another leading dimension is a RangeError', () => {
      const x = new Float32Array(16).fill(0.5),
        gamma = new Float32Array(3),
        invRms = new Float32Array(2);
      expect(() => kernels().rmsNormForward(x, 0, 3, gamma, 0, x, 0, 3, invRms, 0, 2, 3, 0)).not.toThrow();
      expect(() => kernels().rmsNormForward(x, 0, 3, gamma, 0, x, 0, 4, invRms, 0, 2, 3, 0)).toThrow(
        /^rmsNormForward: y must not overlap x$/,
      );
    });

    it('crossEntropy without a gradient only reads the logits: they may be the targets', () => {
      const logits = new Float32Array(4),
        targets = new Int32Array(logits.buffer, 0, 2),
        losses = new Float32Array(2);
      expect(kernels().crossEntropy(logits, 0, targets, 0, losses, 0, 2, 2, -1, 1, false)).toBeCloseTo(
        2 * Math.LN2,
      );
    });

    it('what is only read may overlap', () => {
      const x = new Float32Array(12).fill(0.5),
        c = new Float32Array(4);
      expect(() => kernels().sgemm(false, false, 2, 2, 3, 1, x, 0, 3, x, 1, 3, 0, c, 0, 2)).not.toThrow();
    });

    interleavedConformance(kernels);
    distinctConformance(kernels);
  });
}

/** Matrices in the columns of one wider matrix. */
function interleavedConformance(kernels: () => Kernels): void {
  it('matrices side by side in the columns of one matrix are taken, columns in common are a RangeError', () => {
    const b = new Float32Array(16).fill(0.5);
    const multiply = (x: Float32Array, aAt: number, cAt: number): void =>
      kernels().sgemm(false, false, 5, 4, 4, 1, x, aAt, 8, b, 0, 4, 0, x, cAt, 8);
    const fresh = (): Float32Array => new Float32Array(64).map((_, i) => i % 7);
    for (const [aAt, cAt] of [
      [0, 4],
      [4, 0],
      [0, 12],
      [12, 0],
      [4, 8],
    ]) {
      const x = fresh(),
        c = new Float32Array(20);
      kernels().sgemm(false, false, 5, 4, 4, 1, x, aAt, 8, b, 0, 4, 0, c, 0, 4);
      multiply(x, aAt, cAt);
      for (let i = 0; i < 20; i++)
        expect(x[cAt + 8 * Math.floor(i / 4) + (i % 4)], `${aAt} to ${cAt}`).toBe(c[i]);
    }
    for (const [aAt, cAt] of [
      [0, 3],
      [0, 0],
      [3, 0],
      [0, 5],
      [1, 4],
      [0, 8],
      [0, 13],
    ]) {
      expect(() => multiply(fresh(), aAt, cAt), `${aAt} to ${cAt}`).toThrow(/^sgemm: c must not overlap a$/);
    }
  });

  it('q, k and v in one matrix, and their gradients in another, are taken', () => {
    const B = 2,
      S = 3,
      H = 4,
      KV = 2,
      ld = H + 2 * KV;
    const qkv = new Float32Array(B * S * ld).map((_, i) => ((i * 7) % 11) / 11),
      gradient = qkv.slice().fill(9);
    const out = new Float32Array(B * S * H),
      lse = new Float32Array(B * 2 * S),
      dOut = out.slice().fill(0.5);
    const starts = new Int32Array(B),
      lengths = new Int32Array(B).fill(S);
    const backward = (dq: number, dk: number, dv: number): void =>
      kernels().attentionBackward(
        qkv,
        0,
        ld,
        qkv,
        H,
        ld,
        S * ld,
        qkv,
        H + KV,
        ld,
        S * ld,
        out,
        0,
        H,
        lse,
        0,
        dOut,
        0,
        gradient,
        dq,
        gradient,
        dk,
        gradient,
        dv,
        starts,
        0,
        lengths,
        0,
        B,
        S,
        2,
        1,
        2,
        1,
      );
    backward(0, H, H + KV);
    expect(gradient.every((x) => x !== 9)).toBe(true);
    expect(() => backward(0, H - 1, H + KV)).toThrow(/^attentionBackward: dq must not overlap dk$/);
    expect(() => backward(0, H, H + 1)).toThrow(/^attentionBackward: dk must not overlap dv$/);
  });

  it('a batch of heads that interleave writes beside what it reads', () => {
    const rows = 3,
      heads = 2,
      D = 2,
      ld = 3 * heads * D;
    const x = new Float32Array(rows * ld).fill(0.5),
      b = new Float32Array(heads * D * D).fill(0.5);
    const run = (cAt: number): void =>
      kernels().sgemmBatch(false, false, rows, D, D, 1, x, 0, ld, D, b, 0, D, D * D, 0, x, cAt, ld, D, heads);
    run(heads * D);
    expect(x[heads * D]).toBe(0.5);
    expect(() => run(heads * D - 1)).toThrow(/^sgemmBatch: c must not overlap a$/);
  });

  it('rows of groups that are not in use may belong to another argument', () => {
    const x = new Float32Array(24).fill(0.5),
      b = new Float32Array(9).fill(1),
      starts = Int32Array.of(4, 6);
    const run = (cAt: number): void =>
      kernels().sgemmGrouped(true, 1, starts, 0, 3, 3, 1, x, 0, 3, b, 0, 3, 0, 0, x, cAt, 3);
    run(6); // A rows 4, 5 at 12 .. 18, C at 18 .. 24
    expect([...x.subarray(12)]).toEqual([...Array(6).fill(0.5), ...Array(6).fill(1.5)]);
    expect(() => run(5)).toThrow(/^sgemmGrouped: c must not overlap a$/);
  });
}

/** The matrices that one call writes. */
function distinctConformance(kernels: () => Kernels): void {
  const one = new Float32Array([0.5]);

  it('sgemmBatch: matrices of C that coincide are a RangeError, also 2^33 of them', () => {
    for (const batch of [2, 2 ** 33, Number.MAX_SAFE_INTEGER]) {
      expect(() =>
        kernels().sgemmBatch(
          false,
          false,
          1,
          1,
          1,
          1,
          one,
          0,
          1,
          0,
          one,
          0,
          1,
          0,
          0,
          new Float32Array(1),
          0,
          1,
          0,
          batch,
        ),
      ).toThrow(/^sgemmBatch: strideC must keep the matrices apart, got 0$/);
    }
    const a = new Float32Array(64),
      c = new Float32Array(64);
    const run = (m: number, n: number, ldc: number, strideC: number, batch: number): void =>
      kernels().sgemmBatch(false, false, m, n, 1, 1, a, 0, 1, 0, a, 0, n, 0, 0, c, 0, ldc, strideC, batch);
    for (const stride of [1, 3, 11, 13, 14]) {
      expect(() => run(4, 3, 4, stride, 2), `${stride}`).toThrow(
        `strideC must keep the matrices apart, got ${stride}`,
      );
    }
    for (const [ldc, stride, batch] of [
      [4, 15, 4],
      [4, 16, 3],
      [6, 3, 2],
      [9, 3, 3],
      [7, 4, 1],
    ]) {
      expect(() => run(4, 3, ldc, stride, batch), `${ldc}, ${stride}`).not.toThrow();
    }
    expect(() => run(4, 3, 9, 3, 4)).toThrow('strideC');
    expect(() => run(4, 1, 2, 1, 3)).toThrow('strideC');
  });

  it('sgemmGroupedTransA: matrices of C that coincide are a RangeError', () => {
    const a = new Float32Array(4),
      c = new Float32Array(8),
      starts = Int32Array.of(0, 1, 2);
    const run = (strideC: number): void =>
      kernels().sgemmGroupedTransA(2, starts, 0, 2, 2, 1, a, 0, 2, a, 0, 2, 0, c, 0, 2, strideC);
    expect(() => run(4)).not.toThrow();
    for (const stride of [0, 1, 3])
      expect(() => run(stride)).toThrow(/^sgemmGroupedTransA: strideC must keep/);
  });
}
