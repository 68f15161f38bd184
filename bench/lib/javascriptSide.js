'use strict';
/** What a step costs on the JavaScript side: seen by kernels that count or do nothing, and by the engine itself. */
const inspector = require('node:inspector');

/** Few, so that hardly ever a garbage collection falls between them. */
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

/** Kernels that do nothing once `idle()` was called: what is left of a step's time is JavaScript's. */
function idleKernels(kernels) {
  const own = { ...kernels };
  const idle = () => {
    for (const name of functionsOf(kernels)) own[name] = () => 1;
  };
  return { kernels: own, idle };
}

/**
 * How many typed arrays, views included, `run` makes: by the global constructors and by methods. Those that a module
 * keeps a constructor for don't show; their memory does in `bufferBytesOf`.
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
 * Bytes that V8's sampler sees `runs` runs allocate on the heap, for one run, by function, most first.
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
