// The order in which products of packed panels of 32 rows and 32 columns (tile_layout.h) are computed.
#pragma once
#include "arith.h"
#include "kernels/kernels.h"
#include "tile_layout.h"

namespace sgemoe {

// body(i, j) for panel i of op(A) and panel j of op(B). The panel of the outer loop stays in the first or second cache.
template <class Body>
static inline void forPanels(const PackedProduct& s, Body body) {
  const int64_t rowPanels = ceilDiv(s.rows, kTilePanel), colPanels = ceilDiv(s.cols, kTilePanel);
  if (rowPanels <= colPanels) {
    for (int64_t j = 0; j < colPanels; j++) {
      for (int64_t i = 0; i < rowPanels; i++) body(i, j);
    }
  } else {
    for (int64_t i = 0; i < rowPanels; i++) {
      for (int64_t j = 0; j < colPanels; j++) body(i, j);
    }
  }
}

}  // namespace sgemoe
