// Gathers the kernels of one instruction set.
#include "internal.h"

#define SGEMOE_TEXT(name) #name
#define SGEMOE_NAME(name) SGEMOE_TEXT(name)

namespace sgemoe {
namespace SGEMOE_ISA {

extern const PanelKernels kPanelKernels;
extern const KernelTable kTable;
const KernelTable kTable = {
    SGEMOE_NAME(SGEMOE_ISA),
    sgemm,
    &kPanelKernels,
    packedSize,
    packWeights,
    sgemmPacked,
    exp,
    silu,
    softmaxForward,
    softmaxBackward,
    rmsNormForward,
    rmsNormBackward,
    swigluForward,
    swigluBackward,
    rope,
    attentionForward,
    attentionBackward,
    routeForward,
    routeBackward,
    gatherRows,
    scatterAddRows,
    scatterAddRowsBackward,
    embeddingBackward,
    crossEntropy,
    sumSquares,
    scale,
    axpy,
    adamw,
};

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
