// Softmax over the rows of a matrix.
#include "softmax_row.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void softmaxForward(const float* x, float* y, int64_t rows, int64_t cols) {
  forChunks(rows, cost::kSoftmaxRow + cost::kSoftmaxForward * (double)cols, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) softmaxRow(x + r * cols, y + r * cols, cols);
  });
}

void softmaxBackward(const float* y, const float* dy, float* dx, int64_t rows, int64_t cols) {
  forChunks(rows, cost::kSoftmaxRow + cost::kSoftmaxBackward * (double)cols, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const yRow = y + r * cols;
      const float* const dyRow = dy + r * cols;
      float* const dxRow = dx + r * cols;
      const Vf dot = set1(hsum(sumVectors(
          cols, [=](auto place, int64_t i) { return place.load(yRow + i) * place.load(dyRow + i); })));
      forVectors(cols, [=](auto place, int64_t i) {
        place.store(dxRow + i, place.load(yRow + i) * (place.load(dyRow + i) - dot));
      });
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
