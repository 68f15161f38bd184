// Gathers what multiplies by rounded activations in one instruction set. Those that only add products of bytes have nothing else.
#include "stored_rounded.h"

#if defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)

namespace sgemoe {
namespace SGEMOE_ISA {

extern const RoundedProducts kRoundedProducts;
#if defined(__AVX512VNNI__)
const RoundedProducts kRoundedProducts = {roundedBytes, roundRow, multiplyRounded, &kRoundedPanels};
#else
const RoundedProducts kRoundedProducts = {roundedBytes, roundRow, multiplyRounded, nullptr};
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#endif
