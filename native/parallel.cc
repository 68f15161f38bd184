// How a region runs. The caller publishes a job by opening the gate, then takes chunks like everybody else. A worker
// that finds the gate open adds itself to the gate's count, takes chunks until none is left, and leaves. When the
// caller finds no chunk left it closes the gate, so that no one joins late, and waits for those inside. Nobody ever
// waits for a worker that did not join: a worker whose core is taken by another process delays nothing.
#include "parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace sgemoe {
namespace {

using Clock = std::chrono::steady_clock;

// A spinning worker answers within 0.1-0.5 us, a parked one needs 30-100 us and costs the caller a system call
// (measured on two virtual machines). Below the first bound sharing can't win; below the second it isn't worth a wake.
constexpr double kMinSharedNanoseconds = 20e3;
constexpr double kMinWakeNanoseconds = 200e3;

// Long enough to bridge the JavaScript between two operations of a step, short enough that an idle process soon
// costs nothing. The first part spins hard; after it the thread offers its core to others at each look.
constexpr auto kHardSpin = std::chrono::microseconds(30);
constexpr auto kSpin = std::chrono::microseconds(200);

// The gate: who may join the current job, and who is inside.
constexpr uint64_t kInsideMask = 0xffff;      // workers inside
constexpr uint64_t kOpen = uint64_t{1} << 16;  // workers may join
constexpr uint64_t kCallerSleeps = uint64_t{1} << 17;
constexpr uint64_t kEpochUnit = uint64_t{1} << 32;  // the rest counts jobs

struct Worker {
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<bool> parked{false};
};

// Lives until the process ends and is never destroyed: pool threads may still look at it while the process exits.
struct Pool {
  std::mutex callerMutex;  // held by the thread whose region runs

  std::atomic<uint64_t> gate{0};
  ChunkFn fn = nullptr;
  void* context = nullptr;
  int64_t chunks = 0;
  alignas(64) std::atomic<int64_t> nextChunk{0};

  alignas(64) std::mutex doneMutex;
  std::condition_variable done;

  std::atomic<int> threads{0};    // 0: not chosen yet
  std::atomic<int> spinning{0};   // workers that would see a job at once
  int started = 0;                // workers that exist; guarded by callerMutex
  double unsharedWork = 0;        // see worthWaking; guarded by callerMutex
  Worker* workers[kMaxThreads] = {};
};

Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

thread_local bool insideRegion = false;

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Spins until ready() or until the time is over. Returns ready().
template <class Ready>
bool spinUntil(Ready ready) {
  const Clock::time_point start = Clock::now();
  for (;;) {
    for (int i = 0; i < 64; i++) {
      if (ready()) return true;
      relax();
    }
    const auto waited = Clock::now() - start;
    if (waited > kSpin) return false;
    if (waited > kHardSpin) std::this_thread::yield();
  }
}

void takeChunks(Pool& p) {
  const ChunkFn fn = p.fn;
  void* const context = p.context;
  const int64_t chunks = p.chunks;
  for (;;) {
    const int64_t chunk = p.nextChunk.fetch_add(1, std::memory_order_relaxed);
    if (chunk >= chunks) return;
    fn(context, chunk);
  }
}

// Joins the job behind the gate unless it is closed or was already worked on. lastEpoch is the worker's memory.
bool tryJoin(Pool& p, uint64_t& lastEpoch) {
  uint64_t gate = p.gate.load(std::memory_order_seq_cst);
  while ((gate & kOpen) && gate / kEpochUnit != lastEpoch) {
    if (p.gate.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
      lastEpoch = gate / kEpochUnit;
      return true;
    }
  }
  return false;
}

void leave(Pool& p) {
  const uint64_t before = p.gate.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & kCallerSleeps) && (before & kInsideMask) == 1) {
    std::lock_guard<std::mutex> lock(p.doneMutex);
    p.done.notify_one();
  }
}

void park(Pool& p, Worker& self, uint64_t lastEpoch) {
  std::unique_lock<std::mutex> lock(self.mutex);
  self.parked.store(true, std::memory_order_seq_cst);
  // Either this load sees the new job, or the caller, who opens the gate first, sees parked.
  const uint64_t gate = p.gate.load(std::memory_order_seq_cst);
  if ((gate & kOpen) && gate / kEpochUnit != lastEpoch) {
    self.parked.store(false, std::memory_order_relaxed);
    return;
  }
  self.wake.wait(lock, [&] { return !self.parked.load(std::memory_order_relaxed); });
}

void workerLoop(Pool& p, int index) {
  insideRegion = true;
  Worker& self = *p.workers[index];
  uint64_t lastEpoch = 0;
  for (;;) {
    p.spinning.fetch_add(1, std::memory_order_relaxed);
    const bool joined = spinUntil(
        [&] { return index < p.threads.load(std::memory_order_relaxed) - 1 && tryJoin(p, lastEpoch); });
    p.spinning.fetch_sub(1, std::memory_order_relaxed);
    if (joined) {
      takeChunks(p);
      leave(p);
    } else {
      park(p, self, lastEpoch);
    }
  }
}

// Starts the workers that are missing. When the system gives no more threads, the ones that exist do the work.
void startWorkers(Pool& p, int wanted) {
  while (p.started < wanted) {
    try {
      if (p.workers[p.started] == nullptr) p.workers[p.started] = new Worker;
      std::thread(workerLoop, std::ref(p), p.started).detach();
    } catch (const std::system_error&) {
      return;
    } catch (const std::bad_alloc&) {
      return;
    }
    p.started++;
  }
}

void wakeWorkers(Pool& p, int wanted) {
  for (int i = 0; i < wanted; i++) {
    Worker& worker = *p.workers[i];
    if (!worker.parked.load(std::memory_order_seq_cst)) continue;
    {
      std::lock_guard<std::mutex> lock(worker.mutex);
      worker.parked.store(false, std::memory_order_relaxed);
    }
    worker.wake.notify_one();
  }
}

// Many small regions in a row deserve awake workers too, though none of them alone does: work that ran unshared is
// added up, and pays for one wake when it has cost as much.
bool worthWaking(Pool& p, double totalWork) {
  if (totalWork >= kMinWakeNanoseconds) return true;
  if (p.spinning.load(std::memory_order_relaxed) > 0) return false;
  p.unsharedWork += totalWork;
  if (p.unsharedWork < kMinWakeNanoseconds) return false;
  p.unsharedWork = 0;
  return true;
}

void waitForWorkers(Pool& p) {
  const auto empty = [&] { return (p.gate.load(std::memory_order_acquire) & kInsideMask) == 0; };
  if (spinUntil(empty)) return;
  std::unique_lock<std::mutex> lock(p.doneMutex);
  p.gate.fetch_or(kCallerSleeps, std::memory_order_acq_rel);
  p.done.wait(lock, empty);
}

void runShared(Pool& p, int64_t chunks, int helpers, bool wake, ChunkFn fn, void* context) {
  p.fn = fn;
  p.context = context;
  p.chunks = chunks;
  p.nextChunk.store(0, std::memory_order_relaxed);
  const uint64_t epoch = p.gate.load(std::memory_order_relaxed) / kEpochUnit + 1;
  p.gate.store(epoch * kEpochUnit | kOpen, std::memory_order_seq_cst);
  if (wake) wakeWorkers(p, helpers);

  insideRegion = true;
  takeChunks(p);
  insideRegion = false;

  p.gate.fetch_and(~kOpen, std::memory_order_acq_rel);
  waitForWorkers(p);
}

void runInline(int64_t chunks, ChunkFn fn, void* context) {
  for (int64_t chunk = 0; chunk < chunks; chunk++) fn(context, chunk);
}

}  // namespace

void parallelFor(int64_t chunks, double totalWork, ChunkFn fn, void* context) {
  if (chunks < 2 || insideRegion || !(totalWork >= kMinSharedNanoseconds)) return runInline(chunks, fn, context);
  Pool& p = pool();
  const int threads = threadCount();
  if (threads < 2) return runInline(chunks, fn, context);
  std::unique_lock<std::mutex> lock(p.callerMutex, std::try_to_lock);
  if (!lock.owns_lock()) return runInline(chunks, fn, context);

  startWorkers(p, threads - 1);
  int helpers = threads - 1 < p.started ? threads - 1 : p.started;
  if (chunks - 1 < helpers) helpers = static_cast<int>(chunks - 1);
  const bool wake = worthWaking(p, totalWork);
  if (helpers == 0 || (!wake && p.spinning.load(std::memory_order_relaxed) == 0)) {
    lock.unlock();
    return runInline(chunks, fn, context);
  }
  runShared(p, chunks, helpers, wake, fn, context);
}

int threadCount() {
  Pool& p = pool();
  const int threads = p.threads.load(std::memory_order_relaxed);
  if (threads > 0) return threads;
  int unset = 0;
  p.threads.compare_exchange_strong(unset, defaultThreadCount(), std::memory_order_relaxed);
  return p.threads.load(std::memory_order_relaxed);
}

void setThreadCount(int threads) {
  pool().threads.store(threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads, std::memory_order_relaxed);
}

}  // namespace sgemoe
