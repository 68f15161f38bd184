// Normal random numbers with the same bits on every machine: only exact IEEE operations are used, compiled without
// contraction (-ffp-contract=off). On x86 a second copy uses AVX2 where the processor has it, still without fma.
#include <stdint.h>
#include <string.h>

#include "arith.h"
#include "costs.h"
#include "cpu.h"
#include "kernels/kernels.h"
#include "parallel.h"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// All loops over steps and lanes, of ten or fewer: gcc unrolls them at -O3 only, and is half as fast otherwise.
#if defined(__clang__)
#define SGEMOE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SGEMOE_UNROLL _Pragma("GCC unroll 10")
#endif

#define SGEMOE_RANDOM_LANES two_counters
#define SGEMOE_RANDOM_COUNTERS 2
#include "random_lanes.h"
#undef SGEMOE_RANDOM_LANES
#undef SGEMOE_RANDOM_COUNTERS

#if defined(__SSE2__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#define SGEMOE_RANDOM_LANES four_counters
#define SGEMOE_RANDOM_COUNTERS 4
#include "random_lanes.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace sgemoe {
namespace {

auto chooseFill() {
#if defined(__SSE2__)
  const char* reason;
  // Whatever has AVX-512 has AVX2, in a build without kernels for the latter too.
  const bool hasAvx2 =
      kernelTableNamed("avx2", &reason) != nullptr || kernelTableNamed("avx512", &reason) != nullptr;
  if (hasAvx2) return four_counters::fill;
#endif
  return two_counters::fill;
}

}  // namespace

void randomNormal(float* out, int64_t n, uint32_t seedLow, uint32_t seedHigh, uint32_t stream, double std) {
  constexpr int64_t kChunk = 8192;
  static const auto fill = chooseFill();
  auto chunk = [=](int64_t i) {
    const int64_t begin = i * kChunk, end = begin + kChunk < n ? begin + kChunk : n;
    fill(out + begin, begin, end, seedLow, seedHigh, stream, std);
  };
  parallelChunks(ceilDiv(n, kChunk), cost::kRandomNormal * static_cast<double>(n), chunk);
}

}  // namespace sgemoe
