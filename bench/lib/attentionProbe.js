'use strict';
/** node attentionProbe.js forward|backward S: prints how many bytes the process's peak memory grows during the call. */
const { getKernels } = require('../../dist/backend');
const { attentionArrays, blocked } = require('./attentionCases');
const { peakRss } = require('./memory');

const [direction, length] = process.argv.slice(2);
const kernels = getKernels();
// All arrays are written first, so that the call itself touches no new page of them; a short call has loaded the code.
const filled = (seq) => attentionArrays(seq, (n) => new Float32Array(n).fill(0.1));
blocked(kernels, filled(1))[direction]();
const arrays = filled(Number(length));
for (const name of ['out', 'dq', 'dk', 'dv', 'lse']) arrays[name].fill(0.1);
const call = blocked(kernels, arrays)[direction];
const before = peakRss();
call();
console.log(peakRss() - before);
