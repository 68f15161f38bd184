'use strict';

/**
 * NaNs, infinities and the largest finite magnitude in some arrays.
 * @param {Iterable<ArrayLike<number>>} arrays
 */
function examine(arrays) {
  const found = { nan_count: 0, inf_count: 0, max_abs: 0 };
  for (const array of arrays) {
    for (let i = 0; i < array.length; i++) {
      const magnitude = Math.abs(array[i]);
      if (magnitude <= Number.MAX_VALUE) found.max_abs = Math.max(found.max_abs, magnitude);
      else if (magnitude === Infinity) found.inf_count++;
      else found.nan_count++;
    }
  }
  return found;
}

/**
 * Joins the findings of several threads.
 * @param {ReturnType<typeof examine>[]} parts
 */
function together(parts) {
  const sum = (key) => parts.reduce((total, part) => total + part[key], 0);
  return {
    nan_count: sum('nan_count'),
    inf_count: sum('inf_count'),
    max_abs: Math.max(...parts.map((part) => part.max_abs)),
  };
}

module.exports = { examine, together };
