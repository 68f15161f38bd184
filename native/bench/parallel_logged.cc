// A pool of one thread in place of native/parallel.cc (option SGEMOE_REGIONS): it runs each region on the calling thread and
// appends to the file REGION_LOG, as doubles: when the region began (nanoseconds of the monotonic clock), its estimated
// work, its number of chunks, and the nanoseconds of each chunk. bench/scaling.js computes from them what more threads would give.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../parallel.h"

namespace sgemoe {
namespace {

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

// Never closed: exit() writes what is left in its buffer.
std::FILE* logFile() {
  static std::FILE* const file = [] {
    const char* path = std::getenv("REGION_LOG");
    return path == nullptr ? nullptr : std::fopen(path, "wb");
  }();
  return file;
}

thread_local bool insideRegion = false;

}  // namespace

void parallelFor(int64_t chunks, double totalWork, ChunkFn fn, void* context) {
  if (insideRegion || chunks < 2) {
    for (int64_t i = 0; i < chunks; i++) fn(context, i);
    return;
  }
  static std::vector<double> record;
  record.assign({0, totalWork, static_cast<double>(chunks)});
  insideRegion = true;
  double time = record[0] = now();
  for (int64_t i = 0; i < chunks; i++) {
    fn(context, i);
    const double end = now();
    record.push_back(end - time);
    time = end;
  }
  insideRegion = false;
  if (std::FILE* file = logFile()) std::fwrite(record.data(), sizeof(double), record.size(), file);
}

// As many as are asked for, since large products are cut finer for many threads (gemm_large.cc).
int threadCount() {
  static const int count = defaultThreadCount();
  return count;
}
void setThreadCount(int) {}

}  // namespace sgemoe
