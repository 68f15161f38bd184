// Keys and values as vectors, from the types that attention reads in registers. Scale: what a panel's numbers share.
#pragma once
#include "attention_tile.h"
#include "stored_lanes.h"

namespace sgemoe {
namespace SGEMOE_ISA {

constexpr int64_t kPanel = 2 * kLanes;  // divides a block of 32 numbers

template <class Lanes>
struct FloatRows {
  static Vf scaleAt(const uint8_t*, int64_t) { return Vf{}; }
  static Vf at(const uint8_t* row, int64_t i, Vf) { return Lanes::load(row + i * Lanes::kBytes); }
};

// Blocks of 32: a float16 scale, then 32 bytes.
struct Q8Rows {
  static constexpr int64_t kElements = 32, kBytes = 34;

  static Vf scaleAt(const uint8_t* row, int64_t i) { return set1(halfAt(row + i / kElements * kBytes)); }
  static Vf at(const uint8_t* row, int64_t i, Vf scale) {
    return scale * loadBytes(row + i / kElements * kBytes + 2 + i % kElements);
  }
};

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
