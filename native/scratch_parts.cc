// Parts of scratch memory, which any thread of a region takes and gives back without a lock.
#include <cstdint>

#include "parallel.h"
#include "scratch.h"

#if !defined(__wasm__)
#include <thread>
#endif

namespace sgemoe {
namespace {

constexpr int64_t kMostFloats = INT64_MAX / 2;  // more than Scratch gives

int64_t product(int64_t a, int64_t b) { return b != 0 && a > kMostFloats / b ? kMostFloats : a * b; }

int64_t partCount(int64_t chunks, int64_t most) {
  int64_t parts = threadCount();
  if (parts > chunks) parts = chunks;
  if (parts > most) parts = most;
  return parts < 1 ? 1 : parts;
}

}  // namespace

ScratchParts::ScratchParts(int64_t chunks, int64_t floatsPerPart, int64_t sharedFloats)
    : parts_(partCount(chunks, kMaxParts)),
      stride_(floatsPerPart / 16 * 16 + 16),
      memory_(product(parts_, stride_) + sharedFloats),
      free_(parts_ == kMaxParts ? ~uint64_t{0} : (uint64_t{1} << parts_) - 1) {}

float* ScratchParts::take() {
  for (;;) {
    uint64_t seen = __atomic_load_n(&free_, __ATOMIC_RELAXED);
    while (seen != 0) {
      const uint64_t lowest = seen & (~seen + 1);
      if (__atomic_compare_exchange_n(&free_, &seen, seen & ~lowest, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return memory_.data() + static_cast<int64_t>(__builtin_ctzll(lowest)) * stride_;
      }
    }
#if !defined(__wasm__)
    std::this_thread::yield();
#endif
  }
}

void ScratchParts::giveBack(float* part) {
  const int64_t index = (part - memory_.data()) / stride_;
  __atomic_fetch_or(&free_, uint64_t{1} << index, __ATOMIC_RELEASE);
}

}  // namespace sgemoe
