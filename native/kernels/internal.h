// The declarations that kernel sources share, and the cutting of rows into chunks.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../arith.h"
#include "../costs.h"
#include "../parallel.h"
#include "../scratch.h"
#include "../simd.h"
#include "kernels.h"

namespace sgemoe {
namespace SGEMOE_ISA {

#define SGEMOE_KERNEL(result, name, parameters) result name parameters;
#define SGEMOE_ENTRY(result, name)
#include "../kernels.def"

// A chunk should cost far more than taking it, yet be short enough for the last one not to leave others idle.
constexpr double kChunkNs = 2500;

// body(begin, end) over [0, count) in chunks of about kChunkNs, cut from count and cost alone. For bodies whose
// items are independent of each other. `multiple` keeps cuts on vector boundaries.
template <class Body>
inline void forChunks(int64_t count, double nsPerItem, int64_t multiple, Body body) {
  const double items = kChunkNs / nsPerItem;
  const int64_t size = items < (double)multiple ? multiple : (int64_t)(items / (double)multiple) * multiple;
  if (count <= size) {
    if (count > 0) body(0, count);
    return;
  }
  auto chunk = [&](int64_t i) { body(i * size, minOf(count, (i + 1) * size)); };
  parallelChunks(ceilDiv(count, size), (double)count * nsPerItem, chunk);
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
