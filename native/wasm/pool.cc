// The pool in WebAssembly (../parallel.h). Each thread of JavaScript has its own helpers, which share the memory and end with
// it; the number of threads is the process's. A region runs as in ../parallel.cc: the caller opens a gate, works like
// everybody else, closes the gate when no chunk is left, and waits for the helpers inside. Nobody waits for a helper that
// didn't join; a browser may start it late or never.
#include "../parallel.h"

#include <atomic>

#include "host.h"

namespace sgemoe {
namespace {

// As in parallel.cc. Work that is estimated for wide vectors takes several times as long here.
constexpr double kMinSharedNanoseconds = 4e3;
constexpr double kMinWakeNanoseconds = 50e3;

// Looks at the gate before a helper sleeps, and before the caller naps: some 50 microseconds. Helpers have no clock.
constexpr int kSpins = 1 << 14;

// As in parallel.cc: a helper that made the caller wait so long has lost its core; when that happens often, nothing is shared
// for a while. Milliseconds.
constexpr double kLostCore = 0.5, kLongestLoss = 10;
constexpr int kTimesLost = 32;

constexpr uint64_t kInsideMask = 0xffff;       // helpers inside
constexpr uint64_t kOpen = uint64_t{1} << 16;  // helpers may join
constexpr uint64_t kEpochUnit = uint64_t{1} << 32;  // the rest counts jobs

struct Pool {
  // Written by the caller before the gate opens.
  alignas(64) std::atomic<uint64_t> gate{0};
  ChunkFn fn = nullptr;
  void* context = nullptr;
  int64_t chunks = 0;

  alignas(64) std::atomic<int64_t> next{0};  // chunk that nobody has taken
  std::atomic<int64_t> helped{0};            // chunks that helpers have run since they started

  alignas(64) std::atomic<int32_t> calls{0};  // changes to wake helpers
  std::atomic<int32_t> asleep{0};

  // The caller's.
  int helpers = 0;  // how many exist
  double aloneUntil = 0;
  double sharingSince = 0;  // no core was lost since then
};

thread_local Pool ownPool;
thread_local bool insideRegion = false;

std::atomic<int> threads{0};  // of the process; 0: not chosen yet

int64_t takeChunks(Pool& p) {
  const ChunkFn fn = p.fn;
  void* const context = p.context;
  const int64_t chunks = p.chunks;
  int64_t done = 0;
  for (int64_t i; (i = p.next.fetch_add(1, std::memory_order_relaxed)) < chunks; done++) fn(context, i);
  return done;
}

bool isNew(uint64_t gate, uint64_t lastEpoch) { return (gate & kOpen) && gate / kEpochUnit != lastEpoch; }

bool tryJoin(Pool& p, uint64_t& lastEpoch) {
  uint64_t gate = p.gate.load(std::memory_order_seq_cst);
  while (isNew(gate, lastEpoch)) {
    if (p.gate.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
      lastEpoch = gate / kEpochUnit;
      return true;
    }
  }
  return false;
}

// `mayJoin`: whether this helper is one of those that setThreads has left.
void sleep(Pool& p, bool mayJoin, uint64_t lastEpoch) {
  p.asleep.fetch_add(1, std::memory_order_seq_cst);
  const int32_t call = p.calls.load(std::memory_order_seq_cst);
  // Either this load sees the new job, or the caller, who opens the gate first, sees who is asleep.
  if (!mayJoin || !isNew(p.gate.load(std::memory_order_seq_cst), lastEpoch)) {
    __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(&p.calls), call, -1);
  }
  p.asleep.fetch_sub(1, std::memory_order_seq_cst);
}

void wakeHelpers(Pool& p) {
  if (p.asleep.load(std::memory_order_seq_cst) == 0) return;
  p.calls.fetch_add(1, std::memory_order_seq_cst);
  __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(&p.calls), kMaxThreads);
}

void publish(Pool& p, int64_t chunks, ChunkFn fn, void* context) {
  p.fn = fn;
  p.context = context;
  p.chunks = chunks;
  p.next.store(0, std::memory_order_relaxed);
  const uint64_t epoch = p.gate.load(std::memory_order_relaxed) / kEpochUnit + 1;
  p.gate.store(epoch * kEpochUnit | kOpen, std::memory_order_seq_cst);
}

// Returns how long the caller waited.
double waitForHelpers(Pool& p) {
  const auto empty = [&] { return (p.gate.load(std::memory_order_acquire) & kInsideMask) == 0; };
  if (empty()) return 0;
  const double start = host::now();
  for (int spins = 0; !empty(); spins++) {
    if (spins >= kSpins) host::nap();
  }
  return host::now() - start;
}

// Runs the job that was published at `start`.
void work(Pool& p, double start) {
  insideRegion = true;
  const int64_t done = takeChunks(p);
  insideRegion = false;
  p.gate.fetch_and(~kOpen, std::memory_order_acq_rel);
  const double waited = waitForHelpers(p);
  if (waited < kLostCore || done == 0) return;
  const double now = host::now(), ownChunk = (now - start - waited) / static_cast<double>(done);
  if (waited <= kLostCore + 2 * ownChunk) return;
  p.aloneUntil = p.sharingSince + kTimesLost * (waited < kLongestLoss ? waited : kLongestLoss);
  p.sharingSince = p.aloneUntil > now ? p.aloneUntil : now;
}

void runInline(int64_t chunks, ChunkFn fn, void* context) {
  for (int64_t chunk = 0; chunk < chunks; chunk++) fn(context, chunk);
}

}  // namespace

void parallelFor(int64_t chunks, double totalWork, ChunkFn fn, void* context) {
  const int others = threadCount() - 1;
  if (chunks < 2 || others < 1 || insideRegion || !(totalWork >= kMinSharedNanoseconds)) {
    return runInline(chunks, fn, context);
  }
  Pool& p = ownPool;
  const bool wakes = totalWork >= kMinWakeNanoseconds;
  if (wakes && p.helpers < others) p.helpers = host::startHelpers(others);
  if (p.helpers == 0 || !(wakes || p.asleep.load(std::memory_order_relaxed) < p.helpers)) {
    return runInline(chunks, fn, context);
  }
  const double start = host::now();
  if (start < p.aloneUntil) return runInline(chunks, fn, context);
  publish(p, chunks, fn, context);
  if (wakes) wakeHelpers(p);
  work(p, start);
}

int threadCount() {
  const int chosen = threads.load(std::memory_order_relaxed);
  return chosen > 0 ? chosen : 1;
}

void setThreadCount(int count) {
  threads.store(count < 1 ? 1 : count > kMaxThreads ? kMaxThreads : count, std::memory_order_relaxed);
}

// ---------------------------------------------------------------- what JavaScript calls (src/backend/wasm/instance.ts)

extern "C" {

__attribute__((export_name("threadCount"))) int exportedThreadCount() { return threadCount(); }

// The number of threads while nobody has set one.
__attribute__((export_name("defaultThreads"))) void defaultThreads(int count) {
  int unset = 0;
  threads.compare_exchange_strong(unset, count, std::memory_order_relaxed);
}

__attribute__((export_name("poolOfThread"))) Pool* poolOfThread() { return &ownPool; }

__attribute__((export_name("chunksOfHelpers"))) double chunksOfHelpers() {
  return static_cast<double>(ownPool.helped.load(std::memory_order_relaxed));
}

// The life of helper number `index` of a pool. It never returns; its thread is ended from outside.
__attribute__((export_name("help"))) void help(Pool* pool, int index) {
  insideRegion = true;
  Pool& p = *pool;
  uint64_t lastEpoch = 0;
  for (int spins = 0;; spins++) {
    const bool mayJoin = index < threadCount() - 1;
    if (mayJoin && tryJoin(p, lastEpoch)) {
      p.helped.fetch_add(takeChunks(p), std::memory_order_relaxed);
      p.gate.fetch_sub(1, std::memory_order_acq_rel);
      spins = 0;
    } else if (!mayJoin || spins >= kSpins) {
      sleep(p, mayJoin, lastEpoch);
      spins = 0;
    }
  }
}

}  // extern "C"

}  // namespace sgemoe
