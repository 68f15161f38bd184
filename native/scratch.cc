#include "scratch.h"

#include <cstdlib>
#include <limits>
#include <new>

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

}  // namespace sgemoe
