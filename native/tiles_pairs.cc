// Finds the instructions that multiply pairs of bfloat16 in vectors (kernels/pair_products.cc).
#include "tiles.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstring>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace sgemoe {
namespace {

#if defined(__x86_64__)
constexpr const char* kName = "vdpbf16ps";

// AMD's, from Zen 4 on, multiply twice the numbers of float32 in the same time. Intel's take as long as float32 or longer, and
// most processors that have them have tiles.
bool processorGains() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  char vendor[12];
  if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx)) return false;
  std::memcpy(vendor, &ebx, 4);
  std::memcpy(vendor + 4, &edx, 4);
  std::memcpy(vendor + 8, &ecx, 4);
  if (std::memcmp(vendor, "AuthenticAMD", sizeof vendor) != 0) return false;
  constexpr unsigned kAvx512Bf16 = 1u << 5;  // leaf 7.1, eax
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & kAvx512Bf16) != 0;
}
#else
constexpr const char* kName = "bfmmla";

// From Armv8.6 on. Windows doesn't tell in a way that its older versions know.
bool processorGains() {
#if defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kAtHwcap2 = 26;     // AT_HWCAP2, which older headers lack
  constexpr unsigned long kBf16 = 1ul << 14;  // HWCAP2_BF16 of Linux's asm/hwcap.h
  return (getauxval(kAtHwcap2) & kBf16) != 0;
#elif defined(__APPLE__)
  int has = 0;
  size_t bytes = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &bytes, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}
#endif

}  // namespace

const TileUnit* pairsUnit(const KernelTable* table) {
  static const bool gains = processorGains();
  if (!gains || table->tiles == nullptr || table->tiles->multiplyPairs == nullptr) return nullptr;
  // All tables of a processor have the same function.
  static const TileUnit unit = {kName, nullptr, nullptr, table->tiles->multiplyPairs};
  return &unit;
}

}  // namespace sgemoe
