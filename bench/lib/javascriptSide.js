'use strict';
/** Measures what a step costs on the JavaScript side, with kernels that count or do nothing, and with V8's own tools. */
const inspector = require('node:inspector');

/** Few runs, so that a garbage collection rarely falls between them. */
const BUFFER_RUNS = 4;

const functionsOf = (kernels) =>
  Object.keys(kernels).filter((name) => typeof kernels[name] === 'function' && name !== 'alignmentPadding');

/** Kernels that count their calls in `counter.calls`. */
function countingKernels(kernels) {
  const counter = { calls: 0, kernels: { ...kernels } };
  for (const name of functionsOf(kernels)) {
    counter.kernels[name] = (...args) => {
      counter.calls++;
      return kernels[name](...args);
    };
  }
  return counter;
}

/** Kernels that do nothing after `idle()` was called: the rest of a step's time is JavaScript's. */
function idleKernels(kernels) {
  const own = { ...kernels };
  const idle = () => {
    for (const name of functionsOf(kernels)) own[name] = () => 1;
  };
  return { kernels: own, idle };
}

/**
 * Counts the typed arrays, views included, that `run` makes by the global constructors and by methods. It misses those from a
 * constructor that a module keeps; their memory shows in `bufferBytesOf`.
 */
function typedArraysOf(run) {
  const prototype = Object.getPrototypeOf(Float32Array.prototype);
  const restore = [];
  let made = 0;
  const replace = (holder, name, value) => {
    const original = holder[name];
    restore.push(() => {
      holder[name] = original;
    });
    holder[name] = value;
  };
  const counting = (call) =>
    /** @this {any} */
    function counted(...args) {
      made++;
      return call.apply(this, args);
    };
  for (const name of ['Float32Array', 'Float64Array', 'Int32Array', 'Uint8Array', 'Uint16Array']) {
    replace(globalThis, name, new Proxy(globalThis[name], { construct: counting(Reflect.construct) }));
  }
  for (const name of ['subarray', 'slice', 'map', 'filter']) {
    replace(prototype, name, counting(prototype[name]));
  }
  try {
    run();
  } finally {
    for (const undo of restore) undo();
  }
  return made;
}

/** Bytes of array buffers that a run makes. */
function bufferBytesOf(run) {
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < BUFFER_RUNS; i++) run();
  return Math.max(0, process.memoryUsage().arrayBuffers - before) / BUFFER_RUNS;
}

/**
 * Bytes of one run on the heap, by function, largest first, as V8's sampler sees them over `runs` runs.
 * @returns {{ where: string, bytes: number }[]}
 */
function heapOf(run, runs) {
  const session = new inspector.Session();
  session.connect();
  session.post('HeapProfiler.startSampling', {
    samplingInterval: 256,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  for (let i = 0; i < runs; i++) run();
  const bytes = new Map();
  const visit = ({ callFrame: { functionName, url }, selfSize, children }) => {
    const where = `${functionName || '(anonymous)'} ${url.split('/').slice(-2).join('/')}`.trim();
    bytes.set(where, (bytes.get(where) ?? 0) + selfSize / runs);
    children.forEach(visit);
  };
  session.post('HeapProfiler.stopSampling', (error, found) => {
    if (error) throw error;
    visit(found.profile.head);
  });
  session.disconnect();
  return [...bytes]
    .map(([where, size]) => ({ where, bytes: size }))
    .filter(({ bytes: size }) => size >= 1)
    .sort((a, b) => b.bytes - a.bytes);
}

module.exports = { bufferBytesOf, countingKernels, heapOf, idleKernels, typedArraysOf };
