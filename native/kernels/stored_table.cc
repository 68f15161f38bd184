// Gathers what multiplies stored matrices in one instruction set.
#include "stored_rounded.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void widen(StorageType type, const uint8_t* blocks, int64_t count, float* out);
void multiplyFloats(const StoredProduct& product);

extern const StoredKernels kStoredKernels;
#if defined(__AVX512VNNI__)
const StoredKernels kStoredKernels = {widen, multiplyFloats, roundedBytes, roundRow, multiplyRounded, &kRoundedPanels};
#elif defined(__AVX2__)
const StoredKernels kStoredKernels = {widen, multiplyFloats, roundedBytes, roundRow, multiplyRounded, nullptr};
#else
const StoredKernels kStoredKernels = {widen, multiplyFloats, nullptr, nullptr, nullptr, nullptr};
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
