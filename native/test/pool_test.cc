#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "../parallel.h"
#include "check.h"

namespace sgemoe {
namespace test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr double kWorthSharing = 1e9;  // estimated nanoseconds: no region below is too small
constexpr int kCallers = 4;

// Runs a region that counts the calls of each chunk; what is wrong with the counts.
std::string runCounted(int64_t chunks) {
  std::vector<int> calls(static_cast<size_t>(chunks), 0);  // not atomic: a chunk run twice at once is a data race
  auto body = [&](int64_t i) { calls[static_cast<size_t>(i)]++; };
  parallelChunks(chunks, kWorthSharing, body);
  for (int64_t i = 0; i < chunks; i++) {
    const int count = calls[static_cast<size_t>(i)];
    if (count != 1) return "chunk " + std::to_string(i) + " ran " + std::to_string(count) + " times";
  }
  return "";
}

std::string runsEachChunkOnce() {
  for (const int threads : {1, 2, 3, 8}) {
    setThreadCount(threads);
    for (const int64_t chunks : {0, 1, 2, 3, 7, 8, 100, 1000}) {
      for (int repetition = 0; repetition < 50; repetition++) {
        const std::string problem = runCounted(chunks);
        if (!problem.empty()) return problem;
      }
    }
  }
  return "";
}

// A region of which each chunk waits until `threads` of them run at once, which takes as many threads.
bool meet(int threads) {
  std::atomic<int> arrived{0};
  std::atomic<bool> met{false};
  auto body = [&](int64_t) {
    if (++arrived == threads) met = true;
    const auto end = Clock::now() + milliseconds(100);
    while (!met && Clock::now() < end) std::this_thread::yield();
    arrived--;
  };
  parallelChunks(threads, kWorthSharing, body);
  return met;
}

// More than once: the pool computes alone for a while when the system took a worker's core away.
bool meetsSoon(int threads) {
  for (int attempt = 0; attempt < 20; attempt++) {
    if (meet(threads)) return true;
  }
  return false;
}

std::string sharesWork() {
  for (const int threads : {2, 4}) {
    setThreadCount(threads);
    if (!meetsSoon(threads)) return std::to_string(threads) + " threads never ran chunks at the same time";
  }
  return "";
}

std::string wakesParkedWorkers() {
  setThreadCount(3);
  for (int repetition = 0; repetition < 10; repetition++) {
    std::this_thread::sleep_for(milliseconds(5));  // longer than workers spin
    if (!meetsSoon(3)) return "parked workers did not come";
  }
  return "";
}

std::string keepsToOneThread() {
  setThreadCount(1);
  std::atomic<int> elsewhere{0};
  const std::thread::id self = std::this_thread::get_id();
  auto body = [&](int64_t) {
    if (std::this_thread::get_id() != self) elsewhere++;
  };
  for (int repetition = 0; repetition < 100; repetition++) parallelChunks(8, kWorthSharing, body);
  return elsewhere == 0 ? "" : std::to_string(elsewhere) + " chunks ran on another thread";
}

std::string runsInnerRegionsInline() {
  setThreadCount(4);
  std::atomic<int> elsewhere{0}, inner{0};
  auto outerBody = [&](int64_t) {
    const std::thread::id self = std::this_thread::get_id();
    auto innerBody = [&](int64_t) {
      inner++;
      if (std::this_thread::get_id() != self) elsewhere++;
    };
    parallelChunks(5, kWorthSharing, innerBody);
  };
  for (int repetition = 0; repetition < 200; repetition++) parallelChunks(8, kWorthSharing, outerBody);
  if (inner != 200 * 8 * 5) return std::to_string(inner) + " inner chunks ran";
  return elsewhere == 0 ? "" : std::to_string(elsewhere) + " inner chunks ran on another thread";
}

// As threads of JavaScript do: whoever finds the pool taken computes alone.
std::string servesManyCallers(bool changeThreads) {
  setThreadCount(4);
  std::string problems[kCallers];
  std::vector<std::thread> callers;
  std::atomic<int> running{kCallers};
  for (std::string& problem : problems) {
    callers.emplace_back([&problem, &running] {
      for (int repetition = 0; repetition < 500 && problem.empty(); repetition++) {
        problem = runCounted(1 + repetition % 70);
        if (repetition % 100 == 0) std::this_thread::sleep_for(milliseconds(1));
      }
      running--;
    });
  }
  for (int threads = 1; changeThreads && running > 0; threads = threads % 8 + 1) setThreadCount(threads);
  for (std::thread& caller : callers) caller.join();
  for (const std::string& problem : problems) {
    if (!problem.empty()) return problem;
  }
  return "";
}

}  // namespace

void poolTests() {
  test("a region runs each chunk once, whatever the number of threads", runsEachChunkOnce);
  test("chunks run on as many threads at once as there are", sharesWork);
  test("workers that went to sleep are woken", wakesParkedWorkers);
  test("with one thread the caller runs every chunk", keepsToOneThread);
  test("a region inside a region runs on its thread", runsInnerRegionsInline);
  test("many threads may start regions at once", [] { return servesManyCallers(false); });
  test("the number of threads may change while regions run", [] { return servesManyCallers(true); });
}

}  // namespace test
}  // namespace sgemoe
