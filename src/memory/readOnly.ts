import { SgemoeError } from '../base/errors';

/** The prototype of all typed arrays, which defines slice, map and the others. */
const TYPED_ARRAY = Object.getPrototypeOf(Float32Array.prototype) as object;

const MUTATORS = new Set<PropertyKey>(['set', 'fill', 'sort', 'reverse', 'copyWithin']);

/** Methods that pass the array itself to a function. */
const WITH_CALLBACK = new Set<PropertyKey>(
  'every some forEach map filter find findIndex findLast findLastIndex reduce reduceRight'.split(' '),
);

type Method = (...args: unknown[]) => unknown;

/** @throws SgemoeError SGEMOE_MODEL_FROZEN */
export function refuseWrite(): never {
  throw new SgemoeError(
    'SGEMOE_MODEL_FROZEN',
    'the model is frozen: its parameters can not be written; model.unfreeze() ends that',
  );
}

/** @throws SgemoeError SGEMOE_MODEL_STORED */
export function refuseStored(): never {
  throw new SgemoeError(
    'SGEMOE_MODEL_STORED',
    'the model keeps its matrices as they are stored, which serves only: load it with { dtype: "float32" } to train it, to ' +
      'save or export it, and to read or write its parameters',
  );
}

/**
 * A read-only view of `array`: indices, length, iteration and reading methods work. Assigning an element, `buffer` and the
 * methods that write throw SgemoeError SGEMOE_MODEL_FROZEN; `subarray` gives another read-only view. The view stays
 * read-only after the model is unfrozen. Reading an element takes about 50 times as long as from an array, so take
 * `slice()` for loops. The view is a Proxy, so functions that need a real typed array (kernels, structuredClone) refuse it.
 */
export function readOnlyView(array: Float32Array): Float32Array {
  const view: Float32Array = new Proxy(array, {
    get(target, key) {
      if (key === 'buffer' || MUTATORS.has(key)) return key === 'buffer' ? refuseWrite() : refuseWrite;
      if (key === 'subarray') {
        return (begin?: number, end?: number) => readOnlyView(target.subarray(begin, end));
      }
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function' || key === 'constructor' || !Object.hasOwn(TYPED_ARRAY, key))
        return value;
      const method = value as Method;
      if (!WITH_CALLBACK.has(key)) return method.bind(target);
      return (callback: Method, ...rest: unknown[]) => {
        const guarded = (...args: unknown[]) => callback.apply(rest[0], [...args.slice(0, -1), view]);
        return method.call(target, typeof callback === 'function' ? guarded : callback, ...rest);
      };
    },
    set: refuseWrite,
    defineProperty: refuseWrite,
  });
  return view;
}
