// Gathers what multiplies by rounded activations in one instruction set. Those that only add products of bytes have nothing else.
#include "stored_rounded.h"

#if defined(__AVX2__) || defined(SGEMOE_SDOT)

namespace sgemoe {
#if defined(SGEMOE_I8MM)
namespace neondot {
void roundRow(const float* x, int64_t cols, uint8_t* row);
void multiplyRounded(const StoredProduct& product, const uint8_t* x);
}  // namespace neondot
#endif
namespace SGEMOE_ISA {

extern const RoundedProducts kRoundedProducts;
#if defined(SGEMOE_I8MM)  // few rows would gain nothing from a copy
const RoundedProducts kRoundedProducts = {roundedBytes, neondot::roundRow, neondot::multiplyRounded, &kRoundedPanels};
#elif defined(__AVX512VNNI__) || defined(SGEMOE_SDOT)
const RoundedProducts kRoundedProducts = {roundedBytes, roundRow, multiplyRounded, &kRoundedPanels};
#else
const RoundedProducts kRoundedProducts = {roundedBytes, roundRow, multiplyRounded, nullptr};
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#endif
