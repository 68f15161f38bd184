// Cross-entropy of softmax(logits) with target ids, and its gradient in place of the logits.
#include "softmax_row.h"

namespace sgemoe {
namespace SGEMOE_ISA {

static float lossOfRow(float* logits, int64_t cols, int32_t target, double gradScale, bool writeGradient) {
  const float logit = logits[target];
  const float max = rowMax(logits, cols);
  const double sum = expRow(logits, writeGradient ? logits : nullptr, cols, rowShift(max));
  if (writeGradient) {
    const double probability = logits[target] / sum;
    scaleRow(logits, cols, (float)(gradScale / sum));
    logits[target] = (float)(gradScale * (probability - 1));
  }
  return (float)(__builtin_log(sum) + max - logit);
}

double crossEntropy(float* logits, const int32_t* targets, float* losses, int64_t rows, int64_t cols,
                    int32_t ignoreIndex, double gradScale, bool writeGradient) {
  if (cols == 0) return 0;
  forChunks(rows, cost::kCrossEntropyRow + cost::kCrossEntropy * (double)cols, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* const row = logits + r * cols;
      if (targets[r] != ignoreIndex) {
        losses[r] = lossOfRow(row, cols, targets[r], gradScale, writeGradient);
      } else {
        losses[r] = 0;
        if (writeGradient) memset(row, 0, (size_t)cols * sizeof(float));
      }
    }
  });
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) sum += losses[r];
  return sum;
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
