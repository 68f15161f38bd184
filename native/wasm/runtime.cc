// Scratch memory where JavaScript has the heap (host.h).
#include <stdlib.h>

#include "../scratch.h"
#include "host.h"

namespace sgemoe {
namespace {

constexpr int64_t kKeptBytes = int64_t{32} << 20;  // as scratch.cc

thread_local float* kept = nullptr;
thread_local int64_t keptBytes = 0;
thread_local bool taken = false;

float* allocate(double bytes) { return static_cast<float*>(host::allocate(bytes)); }

}  // namespace

void host::forgetScratch() { taken = false; }

Scratch::Scratch(int64_t floats) {
  const double bytes = static_cast<double>(floats) * sizeof(float);
  owned_ = taken || bytes > static_cast<double>(kKeptBytes);
  if (owned_) {
    data_ = allocate(bytes);
    return;
  }
  if (bytes > static_cast<double>(keptBytes)) {
    if (kept != nullptr) host::release(kept);
    kept = nullptr;
    keptBytes = 0;
    kept = allocate(bytes);
    keptBytes = static_cast<int64_t>(bytes);
  }
  taken = true;
  data_ = kept;
}

Scratch::~Scratch() {
  if (owned_) {
    host::release(data_);
  } else {
    taken = false;
  }
}

}  // namespace sgemoe

// All threads that run this module on one memory would share the C library's heap, which has no lock.
extern "C" {
void* malloc(size_t bytes) { return sgemoe::host::allocate(static_cast<double>(bytes)); }
void free(void* memory) { sgemoe::host::release(memory); }
// An instance ends with its thread and isn't told: no destructor of a thread_local variable runs, and its memory stays taken.
int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }
}
