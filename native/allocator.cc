#include "allocator.h"

#include <cstdlib>
#include <cstring>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace sgemoe {

#if defined(__GLIBC__)
namespace {

// DEFAULT_MMAP_THRESHOLD_MAX, where glibc's own adaptation ends, and twice that, as it sets the other.
constexpr int kMmapThreshold = sizeof(void*) == 8 ? 32 << 20 : 512 << 10;
constexpr int kTrimThreshold = 2 * kMmapThreshold;

bool userDecides() {
  if (std::getenv("MALLOC_MMAP_THRESHOLD_") || std::getenv("MALLOC_TRIM_THRESHOLD_")) return true;
  const char* tunables = std::getenv("GLIBC_TUNABLES");
  return tunables != nullptr && std::strstr(tunables, "glibc.malloc.") != nullptr;
}

}  // namespace

void keepFreedMemory() {
  static const bool done = [] {
    if (userDecides()) return true;
    mallopt(M_MMAP_THRESHOLD, kMmapThreshold);
    mallopt(M_TRIM_THRESHOLD, kTrimThreshold);
    return true;
  }();
  static_cast<void>(done);
}
#else
void keepFreedMemory() {}
#endif

}  // namespace sgemoe
