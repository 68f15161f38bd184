/** Argument checks that several public functions share. A message names the argument, what was expected and what arrived. */

/** @throws TypeError for an option that is misspelt or unknown. */
export function checkOptions(what: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`${what}: options must be an object, got ${String(options)}`);
  }
  // for-in allocates nothing; forward calls this at each step.
  for (const key in options) {
    if (!known.includes(key) && Object.hasOwn(options, key)) {
      throw new TypeError(`${what}: unknown option '${key}'; known: ${known.join(', ')}`);
    }
  }
}

/** @throws RangeError unless `value` is an integer >= `low`. */
export function checkInteger(what: string, value: number, low: number): void {
  if (typeof value !== 'number') throw new TypeError(`${what} must be a number, got ${typeof value}`);
  if (!Number.isSafeInteger(value) || value < low) {
    throw new RangeError(`${what} must be an integer >= ${low}, got ${value}`);
  }
}

/** @throws TypeError or RangeError unless `value` is a finite number >= 0. */
export function checkWeight(what: string, value: number): void {
  if (typeof value !== 'number') throw new TypeError(`${what} must be a number, got ${typeof value}`);
  if (!(Number.isFinite(value) && value >= 0)) {
    throw new RangeError(`${what} must be a finite number >= 0, got ${value}`);
  }
}

/** @throws TypeError or RangeError unless `value` is a finite number > 0. */
export function checkFactor(what: string, value: number): void {
  checkWeight(what, value);
  if (value === 0) throw new RangeError(`${what} must be > 0, got 0`);
}

/** @throws TypeError unless `x` is a tensor of this dtype, RangeError unless it has this shape. */
export function checkTensor(
  what: string,
  x: { readonly shape: readonly number[]; readonly dtype: string },
  shape: readonly number[],
  dtype: string,
): void {
  // The fields are checked, not the class: this module sits below Tensor.
  if (typeof x !== 'object' || x === null || !Array.isArray(x.shape)) {
    throw new TypeError(`${what} must be a Tensor, got ${x === null ? 'null' : typeof x}`);
  }
  if (x.dtype !== dtype) throw new TypeError(`${what} must be a ${dtype} tensor, got ${x.dtype}`);
  if (!sameShape(x.shape, shape))
    throw new RangeError(`${what} must have shape [${shape}], got [${x.shape}]`);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) return false;
  }
  return true;
}

/** @throws RangeError that names the first of ids [from, to) that is not an integer in [0, vocabSize). */
export function checkIds(
  what: string,
  ids: ArrayLike<number>,
  vocabSize: number,
  from = 0,
  to = ids.length,
): void {
  for (let i = from; i < to; i++) {
    const id = ids[i];
    if (!(id >= 0 && id < vocabSize && Number.isInteger(id))) {
      throw new RangeError(
        `${what}: token id ${id} at position ${i} must be an integer in [0, ${vocabSize})`,
      );
    }
  }
}
