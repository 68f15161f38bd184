#include "cpu.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(_WIN32)
#include <windows.h>
#endif

// A build may leave wider instruction sets out: SGEMOE_WITHOUT_ISA of CMakeLists.txt.
#ifdef SGEMOE_WITHOUT_avx512
#define SGEMOE_AVX512(X)
#define SGEMOE_AVX512VNNI(X)
#else
#define SGEMOE_AVX512(X) X(avx512, hasAvx512())
#define SGEMOE_AVX512VNNI(X) X(avx512vnni, avx512, hasAvx512Vnni)
#endif
#ifdef SGEMOE_WITHOUT_avx2
#define SGEMOE_AVX2(X)
#define SGEMOE_AVXVNNI(X)
#else
#define SGEMOE_AVX2(X) X(avx2, hasAvx2())
#define SGEMOE_AVXVNNI(X) X(avxvnni, avx2, hasAvxVnni)
#endif

#if defined(__aarch64__)
#define SGEMOE_TABLES(X) X(neon, true)
#elif defined(__x86_64__)
#define SGEMOE_TABLES(X) SGEMOE_AVX512(X) SGEMOE_AVX2(X) X(baseline, true)
#else
#define SGEMOE_TABLES(X) X(baseline, true)
#endif

namespace sgemoe {

#define DECLARE_TABLE(isa, supported) \
  namespace isa {                     \
  extern const KernelTable kTable;    \
  }
SGEMOE_TABLES(DECLARE_TABLE)
#undef DECLARE_TABLE

#if defined(__x86_64__)
#define SGEMOE_BYTE_PRODUCTS(X) SGEMOE_AVX512VNNI(X) SGEMOE_AVXVNNI(X)
#elif defined(__aarch64__)
#define SGEMOE_BYTE_PRODUCTS(X) X(neoni8mm, neon, hasByteMatrices) X(neondot, neon, hasDotProducts)
#else
#define SGEMOE_BYTE_PRODUCTS(X)
#endif

#define DECLARE_ROUNDED(isa, base, supported)     \
  namespace isa {                                 \
  extern const RoundedProducts kRoundedProducts;  \
  }
SGEMOE_BYTE_PRODUCTS(DECLARE_ROUNDED)
#undef DECLARE_ROUNDED

namespace {

#if defined(__x86_64__)
// Bits of CPUID leaf 1 (ecx), leaf 7 (ebx, ecx) and of XCR0, from Intel's manual, volume 2A (CPUID) and volume 1, 13.3.
constexpr unsigned kFma = 1u << 12, kOsxsave = 1u << 27, kAvx = 1u << 28, kF16c = 1u << 29;
constexpr unsigned kAvx2 = 1u << 5;
constexpr unsigned kAvx512F = 1u << 16, kAvx512Dq = 1u << 17, kAvx512Bw = 1u << 30, kAvx512Vl = 1u << 31;
constexpr unsigned kAvx512Vnni = 1u << 11;
constexpr unsigned kAvxVnni = 1u << 4;  // leaf 7.1, eax
constexpr unsigned kSavesYmm = 0x06, kSavesZmm = 0xe6;

struct X86Features {
  unsigned leaf1Ecx = 0, leaf7Ebx = 0, leaf7Ecx = 0, leaf71Eax = 0, savedState = 0;
};

X86Features readFeatures() {
  X86Features features;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) features.leaf1Ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    features.leaf7Ebx = ebx;
    features.leaf7Ecx = ecx;
    // eax of leaf 7 is the number of its last part.
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) features.leaf71Eax = eax;
  }
  if (features.leaf1Ecx & kOsxsave) {
    // XCR0 says which registers the operating system saves at a context switch; the others are unusable.
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    features.savedState = eax;
  }
  return features;
}

bool hasAll(unsigned value, unsigned bits) { return (value & bits) == bits; }

bool hasAvx2() {
  const X86Features features = readFeatures();
  return hasAll(features.leaf1Ecx, kFma | kAvx | kF16c) && hasAll(features.leaf7Ebx, kAvx2) &&
         hasAll(features.savedState, kSavesYmm);
}

[[maybe_unused]] bool hasAvx512() {
  const X86Features features = readFeatures();
  return hasAvx2() && hasAll(features.leaf7Ebx, kAvx512F | kAvx512Dq | kAvx512Bw | kAvx512Vl) &&
         hasAll(features.savedState, kSavesZmm);
}

[[maybe_unused]] bool hasAvx512Vnni() { return hasAvx512() && hasAll(readFeatures().leaf7Ecx, kAvx512Vnni); }
[[maybe_unused]] bool hasAvxVnni() { return hasAvx2() && hasAll(readFeatures().leaf71Eax, kAvxVnni); }
#endif

#if defined(__aarch64__)
// SDOT, of Armv8.2 and later: optional until 8.4.
bool hasDotProducts() {
#if defined(__ARM_FEATURE_DOTPROD) || defined(__APPLE__)
  return true;  // Macs have had them since their first
#elif defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP of Linux's asm/hwcap.h
  return (getauxval(AT_HWCAP) & kAsimdDp) != 0;
#elif defined(_WIN32)
  constexpr DWORD kDotProducts = 43;  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE of winnt.h
  return IsProcessorFeaturePresent(kDotProducts) != 0;
#else
  return false;
#endif
}

// SMMLA, of Armv8.6 and later. Where it is, dot products are.
bool hasByteMatrices() {
#if defined(__linux__)
  constexpr unsigned long kAtHwcap2 = 26;     // AT_HWCAP2, which older headers lack
  constexpr unsigned long kI8mm = 1ul << 13;  // HWCAP2_I8MM of Linux's asm/hwcap.h
  return (getauxval(kAtHwcap2) & kI8mm) != 0 && hasDotProducts();
#elif defined(__APPLE__)
  int has = 0;  // 0 on Apple's M1
  size_t bytes = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_I8MM", &has, &bytes, nullptr, 0) == 0 && has != 0;
#elif defined(_WIN32)
  constexpr DWORD kByteMatrices = 66;  // PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE of winnt.h; older Windows doesn't know it
  return IsProcessorFeaturePresent(kByteMatrices) != 0 && hasDotProducts();
#else
  return false;
#endif
}
#endif

// Products of bytes serve rounded activations alone: all else is that of the instruction set below.
#define ROUNDED_TABLE(isa, base, supported)                                                             \
  const KernelTable* isa##Table() {                                                                     \
    static const StoredKernels stored = {base::kTable.stored->widen, base::kTable.stored->multiplyFloats, \
                                         &isa::kRoundedProducts};                                       \
    static const KernelTable table = [] {                                                               \
      KernelTable copy = base::kTable;                                                                  \
      copy.instructionSet = #isa;                                                                       \
      copy.stored = &stored;                                                                            \
      return copy;                                                                                      \
    }();                                                                                                \
    return &table;                                                                                      \
  }
SGEMOE_BYTE_PRODUCTS(ROUNDED_TABLE)
#undef ROUNDED_TABLE

struct Candidate {
  const char* name;
  bool (*supported)();
  const KernelTable* (*table)();
};

// Widest first.
constexpr Candidate kCandidates[] = {
#define ROUNDED_CANDIDATE(isa, base, supported) {#isa, supported, isa##Table},
    SGEMOE_BYTE_PRODUCTS(ROUNDED_CANDIDATE)
#undef ROUNDED_CANDIDATE
#define CANDIDATE(isa, supported) {#isa, [] { return supported; }, [] { return &isa::kTable; }},
    SGEMOE_TABLES(CANDIDATE)
#undef CANDIDATE
};

}  // namespace

const KernelTable* bestKernelTable() {
  for (const Candidate& candidate : kCandidates) {
    if (candidate.supported()) return candidate.table();
  }
  return kCandidates[sizeof kCandidates / sizeof kCandidates[0] - 1].table();
}

const KernelTable* kernelTableNamed(const char* name, const char** reason) {
  for (const Candidate& candidate : kCandidates) {
    if (std::strcmp(candidate.name, name) != 0) continue;
    if (candidate.supported()) return candidate.table();
    *reason = "this processor, or its operating system, does not support it";
    return nullptr;
  }
  *reason = "this build does not hold it";
  return nullptr;
}

}  // namespace sgemoe
