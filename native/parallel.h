// One thread pool for the whole process. Work is cut into chunks by the caller, from shapes alone or where a cut changes no
// bit (gemm_large.cc), so that results don't depend on the number of threads; threads only decide who computes a chunk.
#pragma once
#include <cstdint>

namespace sgemoe {

// Must not throw.
using ChunkFn = void (*)(void* context, int64_t chunk);

// Calls fn(context, i) for each i in [0, chunks), in any order, on the pool and on the calling thread; returns when
// all are done. Runs inline when the pool has one thread, when totalWork (estimated nanoseconds) is too
// small to share, when called from inside a parallel region, or when another thread holds the pool.
void parallelFor(int64_t chunks, double totalWork, ChunkFn fn, void* context);

// The same for a lambda. Only for code that is compiled once, or whose lambda lives in an instruction-set namespace.
template <class F>
inline void parallelChunks(int64_t chunks, double totalWork, F& body) {
  parallelFor(chunks, totalWork, [](void* context, int64_t chunk) { (*static_cast<F*>(context))(chunk); }, &body);
}

constexpr int kMaxThreads = 256;

int threadCount();
void setThreadCount(int threads);  // clamped to 1..kMaxThreads
int defaultThreadCount();          // SGEMOE_THREADS, else min(CPU affinity, cgroup quota), in 1..kMaxThreads

// A sentence if SGEMOE_THREADS is not a number of threads and therefore ignored; otherwise null.
const char* threadCountNote();

}  // namespace sgemoe
