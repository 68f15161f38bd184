// Gathers the kernels of one instruction set.
#include "internal.h"

#define SGEMOE_TEXT(name) #name
#define SGEMOE_NAME(name) SGEMOE_TEXT(name)

namespace sgemoe {
namespace SGEMOE_ISA {

extern const PanelKernels kPanelKernels;
extern const PanelKernels kRoundedPanelKernels;
extern const StoredKernels kStoredKernels;
#if defined(__wasm__)
constexpr const TileKernels* kTiles = nullptr;
#else
extern const TileKernels kTileKernels;
constexpr const TileKernels* kTiles = &kTileKernels;
#endif
extern const KernelTable kTable;
const KernelTable kTable = {
    SGEMOE_NAME(SGEMOE_ISA),
    &kPanelKernels,
    &kRoundedPanelKernels,
    &kStoredKernels,
    kTiles,
#define SGEMOE_KERNEL(result, name, parameters) name,
#define SGEMOE_ENTRY(result, name)
#include "../kernels.def"
};

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
