// How a region runs. Each thread of the pool starts at its own place in the range of chunks, the same in every region, so
// that its cache holds what it wrote for the same chunks of the previous region. When its part is done, it takes chunks
// from the ends of the others' parts. The caller publishes a job by opening the gate, then works like everybody else. A
// worker that finds the gate open says on its own cache line that it is inside, looks at the gate again, works until no
// chunk is left, and takes the word back. When the caller finds no chunk left, it closes the gate, so that no one joins late,
// and waits for those inside. Only the caller writes the gate: with many cores, one line that each of them writes twice in
// a region would cost more than the region. Nobody waits for a worker that didn't join, so a worker whose core is taken by
// another process delays nothing, unless it loses the core inside a chunk; the caller then computes alone for a while.
#include "parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "cores.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace sgemoe {
namespace {

using Clock = std::chrono::steady_clock;

// A region costs 0.7 us when the workers spin; a parked one needs 30-100 us to come and costs the caller a system call
// (measured on two virtual machines). Below the first bound sharing can't win; below the second it isn't worth a wake.
constexpr double kMinSharedNanoseconds = 4e3;
constexpr double kMinWakeNanoseconds = 200e3;

// Long enough to bridge the JavaScript between two operations of a step, short enough that an idle process soon
// costs nothing. The first part spins hard; after it the thread offers its core to others at each look.
constexpr auto kHardSpin = std::chrono::microseconds(30);
constexpr auto kSpin = std::chrono::microseconds(200);

// The caller waited so much longer for a worker than its own chunks took that the worker must have lost its core. When
// that happens often, nothing is shared for a while: waiting for lost cores costs at most 3 % of the time.
constexpr auto kLostCore = std::chrono::microseconds(500);
constexpr int kTimesLost = 32;
constexpr Clock::duration kLongestLoss = std::chrono::milliseconds(10);  // more was no other thread's turn

// The gate: who may join the current job.
constexpr uint64_t kHelpersMask = 0xffff;      // the first so many workers
constexpr uint64_t kOpen = uint64_t{1} << 16;  // they may
constexpr uint64_t kWake = uint64_t{1} << 17;  // it is worth waking them
constexpr uint64_t kEpochUnit = uint64_t{1} << 32;  // the rest counts jobs

// The caller wakes the first workers, each worker as many others: 64 threads are awake after three rounds.
constexpr int kWakes = 4;

// The range of chunks that nobody has taken yet: its first in the low half, its end in the high half.
struct alignas(64) Range {
  std::atomic<uint64_t> span{0};
};
constexpr int64_t kMaxChunks = UINT32_MAX;

struct Worker {
  alignas(64) std::atomic<bool> inside{false};  // it works on a job, or is about to look whether it may
  alignas(64) std::mutex mutex;
  std::condition_variable wake;
  std::atomic<bool> parked{false};
};

// The pool is never destroyed, since its threads may still read it while the process exits.
struct Pool {
  std::mutex callerMutex;  // held by the thread whose region runs

  // Written by the caller before the gate opens; on the line that workers look at anyway.
  alignas(64) std::atomic<uint64_t> gate{0};
  ChunkFn fn = nullptr;
  void* context = nullptr;
  int ranges = 0;
  std::atomic<int> callerCore{-1};

  Range range[kMaxThreads];

  alignas(64) std::atomic<bool> callerSleeps{false};
  std::mutex doneMutex;
  std::condition_variable done;

  alignas(64) std::atomic<int> threads{0};  // 0: not chosen yet
  std::atomic<int> awake{0};                // workers that spin or are about to; changed under the worker's mutex

  // Guarded by callerMutex.
  int started = 0;                 // workers that exist
  double work = 0, workBefore = 0;  // shareable work of this burst of regions and of the one before: see worthWaking
  Clock::time_point lastRegion;
  Clock::time_point aloneUntil;
  Clock::time_point sharingSince;  // no core was lost since then
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

// Spins until ready() or until the time is over, with a call of between() now and then. Returns ready().
template <class Ready, class Between>
bool spinUntil(Ready ready, Between between) {
  const Clock::time_point start = Clock::now();
  for (;;) {
    for (int i = 0; i < 64; i++) {
      if (ready()) return true;
      relax();
    }
    between();
    const auto waited = Clock::now() - start;
    if (waited > kSpin) return false;
    if (waited > kHardSpin) std::this_thread::yield();
  }
}

uint64_t spanOf(int64_t first, int64_t end) { return static_cast<uint64_t>(end) << 32 | static_cast<uint64_t>(first); }

// Takes the first chunk of a range, or its last; -1 if all are taken.
int64_t takeChunk(Range& range, bool last) {
  uint64_t span = range.span.load(std::memory_order_relaxed);
  for (;;) {
    const auto first = static_cast<int64_t>(span & UINT32_MAX), end = static_cast<int64_t>(span >> 32);
    if (first >= end) return -1;
    const uint64_t rest = last ? spanOf(first, end - 1) : spanOf(first + 1, end);
    if (range.span.compare_exchange_weak(span, rest, std::memory_order_relaxed)) return last ? end - 1 : first;
  }
}

// Works on range `home`, then on what others have left. Returns the number of chunks done.
int64_t takeChunks(Pool& p, int home) {
  const ChunkFn fn = p.fn;
  void* const context = p.context;
  const int ranges = p.ranges;
  int64_t done = 0;
  for (int i = 0; i < ranges; i++) {
    Range& range = p.range[(home + i) % ranges];
    for (int64_t chunk; (chunk = takeChunk(range, i > 0)) >= 0; done++) fn(context, chunk);
  }
  return done;
}

bool mayJoin(uint64_t gate, int index, uint64_t lastEpoch) {
  return (gate & kOpen) && index < static_cast<int>(gate & kHelpersMask) && gate / kEpochUnit != lastEpoch;
}

void leave(Pool& p, Worker& self) {
  self.inside.store(false, std::memory_order_seq_cst);
  if (!p.callerSleeps.load(std::memory_order_seq_cst)) return;
  std::lock_guard<std::mutex> lock(p.doneMutex);
  p.done.notify_one();
}

// Joins the job behind the gate; returns the gate, or 0 if it is closed, for others, or was already worked on.
uint64_t tryJoin(Pool& p, int index, uint64_t lastEpoch) {
  const uint64_t gate = p.gate.load(std::memory_order_acquire);
  if (!mayJoin(gate, index, lastEpoch)) return 0;
  Worker& self = *p.workers[index];
  // Either the caller, who closes the gate first, sees this worker inside, or this worker sees the gate closed.
  self.inside.store(true, std::memory_order_seq_cst);
  if (p.gate.load(std::memory_order_seq_cst) == gate) return gate;
  leave(p, self);
  return 0;
}

void park(Pool& p, int index, uint64_t lastEpoch) {
  Worker& self = *p.workers[index];
  std::unique_lock<std::mutex> lock(self.mutex);
  self.parked.store(true, std::memory_order_seq_cst);
  p.awake.fetch_sub(1, std::memory_order_relaxed);
  // Either this load sees the new job, or whoever wakes, after the gate was opened, sees parked.
  if (mayJoin(p.gate.load(std::memory_order_seq_cst), index, lastEpoch)) {
    self.parked.store(false, std::memory_order_relaxed);
    p.awake.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  self.wake.wait(lock, [&] { return !self.parked.load(std::memory_order_relaxed); });
}

void wakeWorkers(Pool& p, int first, int end) {
  for (int i = first; i < end; i++) {
    Worker& worker = *p.workers[i];
    if (!worker.parked.load(std::memory_order_seq_cst)) continue;
    {
      std::lock_guard<std::mutex> lock(worker.mutex);
      if (!worker.parked.load(std::memory_order_relaxed)) continue;
      worker.parked.store(false, std::memory_order_relaxed);
      p.awake.fetch_add(1, std::memory_order_relaxed);
    }
    worker.wake.notify_one();
  }
}

// Those that a thread wakes: the caller (-1) the first ones.
void wakeNext(Pool& p, int index, uint64_t gate) {
  if (!(gate & kWake)) return;
  const int helpers = static_cast<int>(gate & kHelpersMask), first = (index + 1) * kWakes;
  wakeWorkers(p, first, first + kWakes < helpers ? first + kWakes : helpers);
}

// Linux may wake a worker on the caller's core and leave it there for seconds, however idle the other cores are.
void leaveCallerAlone(Pool& p) {
  const int core = currentCore();
  if (core >= 0 && core == p.callerCore.load(std::memory_order_relaxed)) leaveCore(core);
}

void workerLoop(Pool& p, int index) {
  insideRegion = true;
  uint64_t lastEpoch = 0, gate = 0;
  for (;;) {
    const auto join = [&] { return (gate = tryJoin(p, index, lastEpoch)) != 0; };
    if (spinUntil(join, [&] { leaveCallerAlone(p); })) {
      lastEpoch = gate / kEpochUnit;
      wakeNext(p, index, gate);
      takeChunks(p, index + 1);
      leave(p, *p.workers[index]);
    } else {
      park(p, index, lastEpoch);
    }
  }
}

// Starts the missing workers. If the system gives no more threads, the existing ones do the work.
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
    p.awake.fetch_add(1, std::memory_order_relaxed);
  }
}

// A wake pays if enough work follows. The region alone may be enough. Otherwise history decides: many small regions in a
// row, or a burst of them (a step of a small model) that was worth it the last time.
bool worthWaking(Pool& p, double totalWork, Clock::time_point now) {
  if (now - p.lastRegion > kSpin) {
    p.workBefore = p.work;
    p.work = 0;
  }
  p.lastRegion = now;
  p.work += totalWork;
  return p.work >= kMinWakeNanoseconds || p.workBefore >= kMinWakeNanoseconds;
}

// Returns how long the caller had to wait for those inside; 0 if it was too short to be measured.
Clock::duration waitForWorkers(Pool& p) {
  const int helpers = p.ranges - 1;
  int gone = 0;  // whoever comes late finds the gate closed
  const auto empty = [&] {
    while (gone < helpers && !p.workers[gone]->inside.load(std::memory_order_seq_cst)) gone++;
    return gone == helpers;
  };
  if (empty()) return Clock::duration::zero();
  const Clock::time_point start = Clock::now();
  if (!spinUntil(empty, [] {})) {
    std::unique_lock<std::mutex> lock(p.doneMutex);
    p.callerSleeps.store(true, std::memory_order_seq_cst);
    p.done.wait(lock, empty);
    p.callerSleeps.store(false, std::memory_order_relaxed);
  }
  return Clock::now() - start;
}

// Returns the gate.
uint64_t publish(Pool& p, int64_t chunks, int helpers, bool wake, ChunkFn fn, void* context) {
  const int ranges = helpers + 1;
  p.fn = fn;
  p.context = context;
  p.ranges = ranges;
  for (int i = 0; i < ranges; i++) {
    p.range[i].span.store(spanOf(chunks * i / ranges, chunks * (i + 1) / ranges), std::memory_order_relaxed);
  }
  p.callerCore.store(currentCore(), std::memory_order_relaxed);
  const uint64_t epoch = p.gate.load(std::memory_order_relaxed) / kEpochUnit + 1;
  const uint64_t gate = epoch * kEpochUnit | kOpen | (wake ? kWake : 0) | static_cast<uint64_t>(helpers);
  p.gate.store(gate, std::memory_order_seq_cst);
  return gate;
}

// Runs the job that was published at `start`.
void work(Pool& p, Clock::time_point start) {
  insideRegion = true;
  const int64_t done = takeChunks(p, 0);
  insideRegion = false;
  p.gate.store(p.gate.load(std::memory_order_relaxed) & ~kOpen, std::memory_order_seq_cst);
  const Clock::duration waited = waitForWorkers(p);
  if (waited < kLostCore || done == 0) return;
  const Clock::time_point now = Clock::now();
  const Clock::duration ownChunk = (now - start - waited) / done;
  if (waited <= kLostCore + 2 * ownChunk) return;
  p.aloneUntil = p.sharingSince + kTimesLost * (waited < kLongestLoss ? waited : kLongestLoss);
  p.sharingSince = p.aloneUntil > now ? p.aloneUntil : now;
}

void runInline(int64_t chunks, ChunkFn fn, void* context) {
  for (int64_t chunk = 0; chunk < chunks; chunk++) fn(context, chunk);
}

}  // namespace

void parallelFor(int64_t chunks, double totalWork, ChunkFn fn, void* context) {
  if (chunks < 2 || insideRegion || !(totalWork >= kMinSharedNanoseconds)) return runInline(chunks, fn, context);
  Pool& p = pool();
  const int threads = threadCount();
  if (threads < 2 || chunks > kMaxChunks) return runInline(chunks, fn, context);
  std::unique_lock<std::mutex> lock(p.callerMutex, std::try_to_lock);
  if (!lock.owns_lock()) return runInline(chunks, fn, context);

  const Clock::time_point start = Clock::now();
  startWorkers(p, threads - 1);
  int helpers = threads - 1 < p.started ? threads - 1 : p.started;
  if (chunks - 1 < helpers) helpers = static_cast<int>(chunks - 1);
  const bool wake = worthWaking(p, totalWork, start);
  if (helpers == 0 || start < p.aloneUntil || !(wake || p.awake.load(std::memory_order_relaxed) > 0)) {
    lock.unlock();
    return runInline(chunks, fn, context);
  }
  const uint64_t gate = publish(p, chunks, helpers, wake, fn, context);
  wakeNext(p, -1, gate);
  work(p, start);
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
