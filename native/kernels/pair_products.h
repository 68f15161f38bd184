// Which instruction for products of bfloat16 the vectors of this instruction set may have. Whether the processor has it: tiles_pairs.cc.
#pragma once
#include "kernels.h"

#if defined(__has_include)
#if defined(__AVX512F__) && __has_include(<avx512bf16intrin.h>)  // the assembler knows it, then: GCC 10, clang 9
#define SGEMOE_VDPBF16PS
#elif defined(__aarch64__) && __has_include(<arm_bf16.h>)
#define SGEMOE_BFMMLA
#endif
#endif

namespace sgemoe {
namespace SGEMOE_ISA {

#if defined(SGEMOE_VDPBF16PS) || defined(SGEMOE_BFMMLA)
void multiplyPairs(const PackedProduct& product);
#else
constexpr void (*multiplyPairs)(const PackedProduct&) = nullptr;
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
