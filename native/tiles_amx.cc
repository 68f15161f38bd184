// The tile instructions of Intel AMX, where Linux on x86-64 gives them to a process that asks. Written as assembly, not with the
// compiler's intrinsics: these need flags that older compilers refuse, and those of GCC 12 tell neither that a configuration of
// 64 bytes is read nor that a tile is.
#include "tiles.h"

#if defined(__linux__) && defined(__x86_64__) && defined(__has_include)
// A compiler whose assembler knows the instructions: GCC 11, clang 11.
#if __has_include(<amxtileintrin.h>) || __has_include(<amxintrin.h>)
#define SGEMOE_AMX
#endif
#endif

#ifdef SGEMOE_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tile_product.h"

namespace sgemoe {
namespace {

struct Amx {
  void configure(const TileConfig& config) { __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory"); }
  void release() { __asm__ volatile("tilerelease" : : : "memory"); }
  template <int T>
  void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(T) : "memory");
  }
  template <int T>
  void load(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(T), "r"(from), "r"(stride) : "memory");
  }
  template <int T>
  void store(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(T), "r"(to), "r"(stride) : "memory");
  }
  // Tile C += A B. The operands stand in the reverse of Intel's order.
  template <int C, int A, int B>
  void dotBfloat16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B) : "memory");
  }
};

// Bits of CPUID leaf 7 (edx) and of XCR0; what leaf 1d says of palette 1 (Intel's manual, volume 2A, CPUID).
constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
constexpr unsigned kSavesTiles = 3u << 17;  // configuration and data

bool processorHasIt() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  if ((edx & (kAmxBf16 | kAmxTile)) != (kAmxBf16 | kAmxTile)) return false;
  if (!__get_cpuid_count(0x1d, 1, &eax, &ebx, &ecx, &edx)) return false;
  const unsigned tileBytes = eax >> 16, rowBytes = ebx & 0xffff, registers = ebx >> 16, rows = ecx & 0xffff;
  return tileBytes >= 1024 && rowBytes >= 64 && registers >= 8 && rows >= 16;
}

bool systemSavesIt() {
  constexpr unsigned kOsxsave = 1u << 27;  // leaf 1, ecx: xgetbv exists
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & kOsxsave) == 0) return false;
  __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return (eax & kSavesTiles) == kSavesTiles;
}

// Linux keeps the tiles from a process until it asks, since they make the frames of its signals 8 KB larger. All of its threads
// have them then. It refuses where a thread has an alternate signal stack too small for that.
bool systemGivesIt() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>; the bit of XCR0
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

constexpr TileUnit kUnit = {"amx", multiplyTiles<Amx, kSplitParts, kSplitParts>, multiplyTiles<Amx, kSplitParts, 1>,
                            multiplyTiles<Amx, 1, 1>};

}  // namespace

const TileUnit* amxUnit(const char** refused) {
  static const char* const problem = [] {
    if (!processorHasIt()) return "";
    if (!systemSavesIt()) return "This processor has AMX, but the system does not save its tiles, so it is not used.";
    if (!systemGivesIt()) return "This processor has AMX, but the system does not give it to this process, so it is not used.";
    return static_cast<const char*>(nullptr);
  }();
  *refused = problem == nullptr || *problem == 0 ? nullptr : problem;
  return problem == nullptr ? &kUnit : nullptr;
}

}  // namespace sgemoe

#else

namespace sgemoe {

const TileUnit* amxUnit(const char** refused) {
  *refused = nullptr;
  return nullptr;
}

}  // namespace sgemoe

#endif
