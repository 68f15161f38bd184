// Costs of operations on one thread, in nanoseconds. A kernel decides from these and the shape alone whether sharing its
// work pays (parallel.h), and how long its chunks are. They are rounded, since an error of a factor of two costs little.
// Machine: one core of a virtual Intel Xeon (Emerald Rapids), AVX-512, operands in the caches. Date: 2026-11-23. Measured
// with kernel_bench and gemm_bench (native/bench).
#pragma once

namespace sgemoe {
namespace cost {

// ---- kernels over one array: each element
constexpr double kExp = 0.25;
constexpr double kSilu = 0.4;
constexpr double kScale = 0.1;
constexpr double kAxpy = 0.15;
constexpr double kSumSquares = 0.15;
constexpr double kAdamw = 0.35;
constexpr double kRandomNormal = 4.0;

// ---- kernels over rows: each row, and each of its elements
constexpr double kSoftmaxRow = 10, kSoftmaxForward = 0.4, kSoftmaxBackward = 0.2;
constexpr double kRmsNormRow = 5, kRmsNormForward = 0.15, kRmsNormBackward = 0.3;
constexpr double kSwigluRow = 2, kSwigluForward = 0.4, kSwigluBackward = 0.6;  // elements of y
constexpr double kSample = 1;  // logit of sampleRows. Measured on a virtual EPYC (Zen 4), 2026-11-29
constexpr double kRopeRow = 2, kRope = 0.2;
constexpr double kCrossEntropyRow = 20, kCrossEntropy = 0.4;
constexpr double kPickedRow = 3;            // a token of gatherRows, scatterAddRows and its backward
constexpr double kPicked = 0.15;            // element read or written by gatherRows and scatterAddRows
constexpr double kScatterBackward = 0.25;   // element of an assignment
constexpr double kEmbeddingBackward = 0.3;  // element

// ---- attention: each pair of a query and a key, and each of its headDim products
constexpr double kAttentionSpan = 200;  // to set up a span of queries
constexpr double kAttentionForwardPair = 0.1, kAttentionForward = 0.03;
constexpr double kAttentionBackwardPair = 0.2, kAttentionBackward = 0.08;
constexpr double kKeyGradientSum = 0.1;  // element of a part's sums

// ---- routing: each token, each of its experts, each of its choices
constexpr double kRouteLanesToken = 3, kRouteLanesExpert = 1;  // tokens side by side in a vector
constexpr double kRouteToken = 40, kRouteExpert = 1.5, kRouteChoice = 5;
constexpr double kRouteBackwardToken = 10, kRouteBackwardExpert = 1, kRouteBackwardChoice = 5;

// ---- matmuls, the other way round: floating-point operations, multiply-adds or floats in each nanosecond
constexpr double kGemmFlops = 60, kGemmFloats = 5;  // of middling sizes; large ones reach 100 to 150 flops
constexpr double kLargeGemmFlops = 100, kLargePackFloats = 3;
constexpr double kPackedGemmProducts = 50, kPackedWeights = 5;
constexpr double kPackWeightsFloats = 2;


// ---- stored matrices: each number. Measured on a virtual EPYC (Zen 4), 2026-11-28
constexpr double kWiden = 0.15, kRound = 0.3;
constexpr double kQuantize = 1.5, kQuantizeParts = 30;
// ... and the other way round: products, and bytes read, in each nanosecond.
constexpr double kStoredProducts = 50, kStoredBytes = 14;

}  // namespace cost
}  // namespace sgemoe
