#include "scratch.h"

#include <cstdlib>
#include <limits>
#include <new>
#include <thread>

#include "parallel.h"

namespace sgemoe {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kKeptBytes = int64_t{32} << 20;  // larger memory is returned to the system after use

float* allocate(int64_t bytes) {
#if defined(_WIN32)
  void* memory = _aligned_malloc(static_cast<size_t>(bytes), kAlignment);
#else
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, static_cast<size_t>(bytes)) != 0) memory = nullptr;
#endif
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<float*>(memory);
}

void release(float* memory) {
#if defined(_WIN32)
  _aligned_free(memory);
#else
  free(memory);
#endif
}

struct Kept {
  float* memory = nullptr;
  int64_t bytes = 0;
  bool taken = false;
  ~Kept() { release(memory); }
};

thread_local Kept kept;

int64_t bytesFor(int64_t floats) {
  if (floats < 0 || floats > std::numeric_limits<int64_t>::max() / 8) throw std::bad_alloc();
  const int64_t bytes = floats * static_cast<int64_t>(sizeof(float));
  return (bytes + kAlignment) / kAlignment * kAlignment;
}

int64_t product(int64_t a, int64_t b) {
  if (b != 0 && a > std::numeric_limits<int64_t>::max() / 8 / b) throw std::bad_alloc();
  return a * b;
}

}  // namespace

Scratch::Scratch(int64_t floats) {
  const int64_t bytes = bytesFor(floats);
  owned_ = kept.taken || bytes > kKeptBytes;
  if (owned_) {
    data_ = allocate(bytes);
    return;
  }
  if (bytes > kept.bytes) {
    release(kept.memory);
    kept.memory = nullptr;
    kept.bytes = 0;
    kept.memory = allocate(bytes);
    kept.bytes = bytes;
  }
  kept.taken = true;
  data_ = kept.memory;
}

Scratch::~Scratch() {
  if (owned_) {
    release(data_);
  } else {
    kept.taken = false;
  }
}

static int64_t partCount(int64_t chunks, int64_t most) {
  int64_t parts = threadCount();
  if (parts > chunks) parts = chunks;
  if (parts > most) parts = most;
  return parts < 1 ? 1 : parts;
}

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
    std::this_thread::yield();
  }
}

void ScratchParts::giveBack(float* part) {
  const int64_t index = (part - memory_.data()) / stride_;
  __atomic_fetch_or(&free_, uint64_t{1} << index, __ATOMIC_RELEASE);
}

}  // namespace sgemoe
