// Gathers what multiplies stored matrices in one instruction set.
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void widen(StorageType type, const uint8_t* blocks, int64_t count, float* out);
void multiplyFloats(const StoredProduct& product);

extern const StoredKernels kStoredKernels;
#if defined(__AVX2__) || defined(SGEMOE_SDOT)
extern const RoundedProducts kRoundedProducts;
const StoredKernels kStoredKernels = {widen, multiplyFloats, &kRoundedProducts};
#else
const StoredKernels kStoredKernels = {widen, multiplyFloats, nullptr};
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
