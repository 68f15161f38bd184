#include "huge_pages.h"

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sgemoe {

void adviseHugePages(void* begin, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // A large page has 2 MiB or more. In a buffer of few of them the unused rest of the last one would weigh too much.
  constexpr std::size_t kLeastBytes = std::size_t{4} << 20;
  constexpr std::uintptr_t kAlignment = std::uintptr_t{64} << 10;  // a multiple of every system's page
  const auto first = (reinterpret_cast<std::uintptr_t>(begin) + kAlignment - 1) / kAlignment * kAlignment;
  const auto end = (reinterpret_cast<std::uintptr_t>(begin) + bytes) / kAlignment * kAlignment;
  if (bytes >= kLeastBytes) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#else
  static_cast<void>(begin);
  static_cast<void>(bytes);
#endif
}

}  // namespace sgemoe
