'use strict';

/** The variables from which NumPy, PyTorch and the libraries under them read their number of threads when they are loaded. */
const THREAD_VARIABLES = [
  'OMP_NUM_THREADS',
  'OPENBLAS_NUM_THREADS',
  'MKL_NUM_THREADS',
  'VECLIB_MAXIMUM_THREADS',
];

/**
 * glibc keeps freed memory instead of returning it to the system, so that an array of some 100 KB doesn't cost page
 * faults each time: this makes both peers faster. The values are the largest that glibc takes, and one that is large enough.
 */
const KEEP_MEMORY = {
  MALLOC_MMAP_THRESHOLD_: String(32 * 2 ** 20),
  MALLOC_TRIM_THRESHOLD_: String(2 ** 30),
  MALLOC_TOP_PAD_: String(64 * 2 ** 20),
};

/**
 * The environment of a peer gives it as many threads as ours, and its best speed. An OpenBLAS older than the processor takes
 * its slowest kernels; this library corrects that, so the peers get the core type that it found, too.
 * @param {{ threads: number, blas_core: string | null }} ours
 */
function peerEnvironment({ threads, blas_core: core }) {
  const counts = Object.fromEntries(THREAD_VARIABLES.map((name) => [name, String(threads)]));
  const kernels = core === null ? {} : { OPENBLAS_CORETYPE: core };
  // This keeps __pycache__ out of the repository.
  return { ...KEEP_MEMORY, ...kernels, ...process.env, ...counts, PYTHONDONTWRITEBYTECODE: '1' };
}

module.exports = { peerEnvironment };
