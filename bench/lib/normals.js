'use strict';
const { SEED } = require('./models');

/** Numbers drawn before they repeat, so that a gigabyte of them doesn't take long. */
const PERIOD = 1 << 20;

/** `n` normal random numbers as a Float32Array; another stream gives other numbers. */
function normals(kernels, n, { stream = 0, std = 1 } = {}) {
  const values = new Float32Array(n);
  kernels.randomNormal(values, 0, Math.min(n, PERIOD), SEED, 0, stream, std);
  for (let filled = PERIOD; filled < n; filled *= 2)
    values.copyWithin(filled, 0, Math.min(filled, n - filled));
  return values;
}

module.exports = { normals };
