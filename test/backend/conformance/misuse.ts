import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { isReal, type Parameter, RANGED, readSignatures, type Signature } from './contract';
import { argumentsOf, VALID } from './validArguments';

type Values = Record<string, unknown>;

/** Fails unless a call with `values` throws an error of this class and message, and writes nothing. */
function refuses(
  kernels: Kernels,
  signature: Signature,
  values: Values,
  type: ErrorConstructor,
  message: RegExp,
): void {
  const { kernel, parameters } = signature;
  const given = argumentsOf(kernels, signature, values);
  const arrays = given.filter(
    (value): value is Float32Array => ArrayBuffer.isView(value) && 'slice' in value,
  );
  const before = arrays.map((array) => array.slice());
  const list = parameters.map(({ name }) => `${name}: ${describeValue(values[name])}`);
  const label = `${kernel}(${list.join(', ')})`;
  let caught: unknown;
  try {
    (kernels[kernel] as (...list: unknown[]) => unknown)(...given);
  } catch (error) {
    caught = error;
  }
  if (!(caught instanceof type)) throw new Error(`expected a ${type.name}, got ${String(caught)}\n${label}`);
  if (!message.test(caught.message)) {
    throw new Error(`'${caught.message}' does not match ${message}\n${label}`);
  }
  for (const [i, array] of arrays.entries()) expect(array, label).toEqual(before[i]);
}

function describeValue(value: unknown): string {
  if (!ArrayBuffer.isView(value)) return String(value);
  return `${value.constructor.name}(${(value as Float32Array).length})`;
}

const isArray = ({ type }: Parameter): boolean => type.includes('Array');
const isOffset = ({ name }: Parameter): boolean => name.endsWith('Offset');
const isLd = ({ name }: Parameter): boolean => /^ld/.test(name) && name !== 'logits';
const isSize = (p: Parameter): boolean => p.type === 'number' && !isReal(p.name) && !RANGED.has(p.name);
const isDimension = (p: Parameter): boolean => isSize(p) && !isOffset(p) && !isLd(p);

/** Values that aren't of the parameter's type. */
function wrongTypes({ type }: Parameter): unknown[] {
  const notArrays = [
    undefined,
    5,
    '0.5',
    {},
    [0.5, 0.5],
    new ArrayBuffer(64),
    new DataView(new ArrayBuffer(64)),
  ];
  const otherArrays = [new Float64Array(64), new Uint32Array(64), new Uint8Array(64), new BigInt64Array(64)];
  switch (type) {
    case 'Float32Array':
      return [null, ...notArrays, ...otherArrays, new Int32Array(64)];
    case 'Float32Array | null':
      return [...notArrays, ...otherArrays, new Int32Array(64)];
    case 'Int32Array':
      return [null, ...notArrays, ...otherArrays, new Float32Array(64)];
    case 'Uint8Array':
      return [null, ...notArrays, new Float64Array(64), new Uint8ClampedArray(64), new Float32Array(64)];
    case 'StoredMatrices':
      return [null, ...notArrays, ...otherArrays, { type: 'q8_0', rows: 3, cols: 32, count: 2 }];
    case 'StorageType':
      return [undefined, null, 3, {}, ['q4_0'], Symbol.iterator];
    case 'boolean':
      return [undefined, null, 0, 1, 'true', {}];
    case 'number':
      return [undefined, null, '3', 3n, true, {}, [3], Symbol.iterator];
  }
}

/** Contents that every call must refuse: [kernel, argument, element, value]. */
const BAD_CONTENTS: readonly (readonly [Signature['kernel'], string, number, number])[] = [
  ['sgemmGrouped', 'rowStarts', 0, -1],
  ['sgemmGrouped', 'rowStarts', 1, -1],
  ['sgemmGrouped', 'rowStarts', 2, 0],
  ['sgemmGrouped', 'rowStarts', 1, 2 ** 31 - 1],
  ['sgemmGroupedTransA', 'rowStarts', 0, -1],
  ['sgemmGroupedTransA', 'rowStarts', 1, -1],
  ['sgemmGroupedTransA', 'rowStarts', 2, 0],
  ['gemmBfloat16Grouped', 'rowStarts', 2, 0],
  ['gemmBfloat16GroupedTransA', 'rowStarts', 0, -1],
  ['sgemmGroupedPacked', 'rowStarts', 0, -1],
  ['sgemmGroupedPacked', 'rowStarts', 2, 0],
  ['rope', 'positions', 0, 5],
  ['rope', 'positions', 1, -1],
  ['rope', 'positions', 1, 2 ** 31 - 1],
  ['attentionForward', 'queryStarts', 0, -1],
  ['attentionForward', 'kvLengths', 1, -1],
  ['attentionForwardStored', 'queryStarts', 1, -1],
  ['attentionForwardStored', 'kvLengths', 0, -1],
  ['attentionBackward', 'queryStarts', 1, -(2 ** 31)],
  ['attentionBackward', 'kvLengths', 0, -1],
  ['routeBackward', 'topkIndices', 0, 4],
  ['routeBackward', 'topkIndices', 5, -1],
  ['routeBackward', 'rowStarts', 0, -1],
  ['routeBackward', 'rowStarts', 3, 1],
  ['gatherRows', 'indices', 0, 4],
  ['gatherRows', 'indices', 1, -1],
  ['scatterAddRows', 'slots', 0, 4],
  ['scatterAddRows', 'slots', 3, -1],
  ['scatterAddRowsBackward', 'slots', 0, 4],
  ['scatterAddRowsBackward', 'slots', 3, -(2 ** 31)],
  ['embeddingBackward', 'ids', 0, 4],
  ['embeddingBackward', 'ids', 1, -1],
  ['crossEntropy', 'targets', 0, 4],
  ['crossEntropy', 'targets', 1, -1],
  ['multiplyStoredGroups', 'rowStarts', 0, -1],
  ['multiplyStoredGroups', 'rowStarts', 1, -1],
  ['multiplyStoredGroups', 'rowStarts', 2, 0],
  ['multiplyStoredGroups', 'rowStarts', 1, 2 ** 31 - 1],
  ['gatherStored', 'ids', 0, 3],
  ['gatherStored', 'ids', 1, -1],
];

/** Rules between arguments: [kernel, changed arguments, the argument that the message names]. */
const BROKEN_RULES: readonly (readonly [Signature['kernel'], Values, string])[] = [
  ['rope', { headDim: 3 }, 'headDim'],
  ['attentionForward', { nHeads: 3, nKvHeads: 2 }, 'nHeads'],
  ['attentionForward', { nKvHeads: 0 }, 'nHeads'],
  ['attentionForwardStored', { nHeads: 3, nKvHeads: 2 }, 'nHeads'],
  ['attentionForwardStored', { type: 'q8_0' }, 'headDim'],
  ['attentionForwardStored', { kvLengths: new Int32Array([2, 4]) }, 'k'],
  ['attentionBackward', { nHeads: 1, nKvHeads: 2 }, 'nHeads'],
  ['routeForward', { topK: 0 }, 'topK'],
  ['routeForward', { topK: 5 }, 'topK'],
  ['routeForward', { nExperts: 0, tokens: 0 }, 'topK'],
  ['routeBackward', { topK: 0 }, 'topK'],
  ['routeBackward', { topK: 5 }, 'topK'],
  ['attentionForward', { kvLengths: new Int32Array([2, 4]) }, 'k'],
  ['attentionBackward', { kvLengths: new Int32Array([2, 2 ** 31 - 1]) }, 'k'],
  ['sgemmGrouped', { rowStarts: new Int32Array([0, 1, 4]) }, 'a'],
  ['sgemmGroupedPacked', { rowStarts: new Int32Array([0, 1, 4]) }, 'a'],
  ['sgemmGroupedTransA', { rowStarts: new Int32Array([0, 1, 2 ** 31 - 1]) }, 'a'],
  ['multiplyStoredGroups', { rowStarts: new Int32Array([0, 1, 4]) }, 'x'],
  ['multiplyStored', { index: 2 }, 'index'],
  ['gatherStored', { index: 2 }, 'index'],
  ['quantize', { cols: 31 }, 'cols'],
  ['dequantize', { type: 'q4_k' }, 'cols'],
  ['quantize', { type: 'Q4_0' }, 'type'],
  ['quantize', { type: '' }, 'type'],
  ['dequantize', { type: 'toString' }, 'type'],
];

/** The checks of src/backend/kernels.ts, on every argument of every kernel that is declared there. */
export function misuseConformance(kernels: () => Kernels): void {
  describe('misuse', () => {
    const signatures = readSignatures().filter(
      ({ kernel }) => kernel !== 'setThreads' && kernel !== 'storedMatrices',
    );

    it('is tested for every kernel of the contract', () => {
      expect(signatures.map(({ kernel }) => kernel).sort()).toEqual(Object.keys(VALID).sort());
      for (const { kernel, parameters } of signatures) {
        const names = parameters.map(({ name }) => name);
        expect(Object.keys(validOf(kernel)).sort(), kernel).toEqual(names.sort());
      }
    });

    for (const signature of signatures) {
      const { kernel, parameters } = signature;
      const refuse = (changed: Values, type: ErrorConstructor, message: RegExp): void =>
        refuses(kernels(), signature, { ...validOf(kernel), ...changed }, type, message);

      it(`${kernel}: valid arguments are taken, also with arrays and offsets behind each other`, () => {
        const values = validOf(kernel);
        expect(() => call(kernels(), signature, values)).not.toThrow();
        const shifted = { ...validOf(kernel) };
        for (const { name } of parameters.filter(isArray)) {
          if (!(`${name}Offset` in shifted)) continue;
          const array = shifted[name] as Float32Array;
          const longer = new (array.constructor as Float32ArrayConstructor)(array.length + 3);
          longer.set(array, 3);
          shifted[name] = longer;
          shifted[`${name}Offset`] = 3;
        }
        expect(() => call(kernels(), signature, shifted)).not.toThrow();
      });

      it(`${kernel}: a wrong type is a TypeError`, () => {
        for (const parameter of parameters) {
          const { name, type } = parameter;
          const article = type === 'Int32Array' ? 'an' : 'a';
          const expected = type === 'StorageType' ? 'string' : type.replace('| null', 'or null');
          for (const value of wrongTypes(parameter)) {
            refuse(
              { [name]: value },
              TypeError,
              new RegExp(`^${kernel}: ${name} must be ${article} ${expected}, got .+$`),
            );
          }
        }
      });

      it(`${kernel}: an integer out of range is a RangeError`, () => {
        for (const { name } of parameters.filter(isSize)) {
          for (const value of [Number.NaN, -1, 1.5, 2 ** 53, Number.POSITIVE_INFINITY, -1e300]) {
            refuse(
              { [name]: value },
              RangeError,
              new RegExp(`^${kernel}: ${name} must be an integer >= 0, got ${printed(value)}$`),
            );
          }
        }
        for (const { name } of parameters.filter((p) => RANGED.has(p.name))) {
          for (const value of [Number.NaN, 1.5, 2 ** 32, -(2 ** 31) - 1, Number.NEGATIVE_INFINITY]) {
            refuse(
              { [name]: value },
              RangeError,
              new RegExp(`^${kernel}: ${name} must be an integer in \\[.+\\), got ${printed(value)}$`),
            );
          }
        }
      });

      it(`${kernel}: a leading dimension below its columns is a RangeError`, () => {
        for (const { name } of parameters.filter(isLd)) {
          const least = validOf(kernel)[name] as number;
          for (const value of [least - 1, 0]) {
            refuse(
              { [name]: value },
              RangeError,
              new RegExp(`^${kernel}: ${name} must be >= ${least}, got ${value}$`),
            );
          }
        }
      });

      it(`${kernel}: an array that is too short is a RangeError`, () => {
        for (const { name } of parameters.filter(isArray)) {
          if (kernel === 'alignmentPadding' || kernel === 'adviseHugePages') continue;
          const array = validOf(kernel)[name] as Float32Array;
          const n = array.length;
          const says = (offset: number, length: number): RegExp =>
            new RegExp(
              `^${kernel}: ${name} is too short: needs ${n} elements from offset ${offset}, has ${length}$`,
            );
          refuse({ [name]: array.subarray(0, n - 1) }, RangeError, says(0, n - 1));
          refuse({ [name]: array.subarray(0, 0) }, RangeError, says(0, 0));
          for (const offset of [1, n, n + 1, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
            refuse({ [`${name}Offset`]: offset }, RangeError, says(offset, n));
          }
        }
      });

      it(`${kernel}: sizes beyond the arrays are a RangeError, up to the largest integers`, () => {
        if (!parameters.some(isArray)) return;
        for (const { name } of parameters.filter(isDimension)) {
          const value = validOf(kernel)[name] as number;
          for (const larger of [
            value + 1,
            value + 2,
            2 ** 31,
            2 ** 32 + value,
            2 ** 52,
            Number.MAX_SAFE_INTEGER,
          ]) {
            refuse({ [name]: larger }, RangeError, new RegExp(`^${kernel}: \\w+ (must be|is too short|\\[)`));
          }
        }
        for (const { name } of parameters.filter(isLd)) {
          for (const larger of [2 ** 31, 2 ** 32 + 4, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
            refuse({ [name]: larger }, RangeError, new RegExp(`^${kernel}: \\w+ is too short`));
          }
        }
        const all = Object.fromEntries(
          parameters.filter(isDimension).map(({ name }) => [name, Number.MAX_SAFE_INTEGER - 1]),
        );
        if (Object.keys(all).length > 0) refuse(all, RangeError, new RegExp(`^${kernel}: `));
      });

      it(`${kernel}: a type is checked before an integer, an integer before a length`, () => {
        const last = parameters[parameters.length - 1];
        const first = parameters.find(isArray);
        if (first === undefined || last === first) return;
        const integers = Object.fromEntries(parameters.filter(isSize).map(({ name }) => [name, -1]));
        refuse(
          { ...integers, [last.name]: undefined },
          TypeError,
          new RegExp(`^${kernel}: ${last.name} must be`),
        );
        const empty = { [first.name]: (validOf(kernel)[first.name] as Float32Array).subarray(0, 0) };
        const size = parameters.filter(isSize).at(-1)!;
        refuse(
          { ...empty, [size.name]: -1 },
          RangeError,
          new RegExp(`^${kernel}: ${size.name} must be an integer >= 0`),
        );
      });
    }

    for (const [kernel, name, index, value] of BAD_CONTENTS) {
      it(`${kernel}: ${name}[${index}] = ${value} is a RangeError`, () => {
        const signature = signatures.find((s) => s.kernel === kernel)!;
        const values = validOf(kernel);
        (values[name] as Int32Array)[index] = value;
        // A row start that is too large is reported at the next one.
        const at = value === 2 ** 31 - 1 && name === 'rowStarts' ? index + 1 : index;
        refuses(
          kernels(),
          signature,
          values,
          RangeError,
          new RegExp(`^${kernel}: ${name}\\[${at}\\] is -?\\d+, must be `),
        );
      });
    }

    for (const [kernel, changed, named] of BROKEN_RULES) {
      const broken = Object.entries(changed)
        .map(([name, value]) => `${name} = ${value}`)
        .join(', ');
      it(`${kernel}: ${broken} is a RangeError`, () => {
        const signature = signatures.find((s) => s.kernel === kernel)!;
        const values = { ...validOf(kernel), ...changed };
        refuses(
          kernels(),
          signature,
          values,
          RangeError,
          new RegExp(`^${kernel}: ${named} (must be|is too short)`),
        );
      });
    }

    it('null is taken where the contract allows it', () => {
      for (const signature of signatures) {
        for (const { name } of signature.parameters.filter((p) => p.type === 'Float32Array | null')) {
          const values = { ...validOf(signature.kernel), [name]: null };
          expect(() => call(kernels(), signature, values)).not.toThrow();
        }
      }
    });

    it('an offset at the end of an array is taken if no element is needed', () => {
      const empty = new Float32Array(0);
      expect(() => kernels().exp(new Float32Array(3), 3, empty, 0, 0)).not.toThrow();
      const b = new Float32Array(35);
      expect(() =>
        kernels().sgemm(false, false, 0, 5, 7, 1, empty, 0, 7, b, 0, 5, 0, empty, 0, 5),
      ).not.toThrow();
    });

    it('sizes of 0 do nothing, whatever the others are', () => {
      const empty = new Float32Array(0),
        none = new Int32Array(0);
      const huge = 2 ** 50;
      expect(() => {
        kernels().softmaxForward(empty, 0, empty, 0, huge, 0);
        kernels().softmaxForward(empty, 0, empty, 0, 0, huge);
        kernels().swigluForward(empty, 0, empty, 0, huge, 0);
        kernels().gatherRows(empty, 0, huge, none, 0, empty, 0, 0, 0);
        kernels().scatterAddRows(empty, 0, 0, none, 0, null, 0, empty, 0, 0, huge, huge);
        kernels().sgemmBatch(
          false,
          false,
          0,
          3,
          0,
          1,
          empty,
          0,
          0,
          0,
          empty,
          0,
          3,
          0,
          1,
          empty,
          0,
          3,
          0,
          huge,
        );
      }).not.toThrow();
    });
  });
}

function validOf(kernel: Signature['kernel']): Values {
  return VALID[kernel as keyof typeof VALID]();
}

function call(kernels: Kernels, signature: Signature, values: Values): unknown {
  const kernel = kernels[signature.kernel] as (...list: unknown[]) => unknown;
  return kernel(...argumentsOf(kernels, signature, values));
}

function printed(value: number): string {
  return String(value).replace(/[+.]/g, '\\$&');
}
