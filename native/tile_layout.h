// How operands lie in memory for a matrix unit that multiplies tiles (tile_product.h). Sources that are compiled once per
// instruction set (kernels/tile_panels.cc) and once for all share this: everything is constant or static.
//
// A float32 x is split into three bfloat16, x = x1 + x2 + x3: x1 is x rounded to the nearest bfloat16, x2 is x - x1 rounded, x3
// is what remains. 3 times 8 bits hold all 24 of x, so the sum is exact while x3 is a normal number (|x| >= 2^-103).
//
// A panel has 32 rows of op(A) or 32 columns of op(B). In front of it stands a TileRange. Then, for each 32 steps of the depth
// and for each part, two tiles of 1 KB follow, one of each 16 rows or columns; what is beyond the matrix is zero.
//   A tile of op(A) is [16 rows][32 steps]; one of op(B) is [16 pairs of steps][16 columns][2 steps].
#pragma once
#include <stdint.h>

namespace sgemoe {

constexpr int64_t kTileSide = 16;                // rows of a tile, and 32-bit words in one
constexpr int64_t kTilePanel = 2 * kTileSide;    // rows or columns of a panel
constexpr int64_t kTileSteps = 32;               // of the depth
constexpr int64_t kTileFloats = 256;             // 1 KB
constexpr int64_t kTileHeader = 16;              // floats in front of a panel, so that tiles begin at cache lines
constexpr int kSplitParts = 3;

// Floats of a panel for each step of the depth.
constexpr int64_t tileStepFloats(int parts) { return 2 * kTileFloats * parts / kTileSteps; }

// Magnitudes of a panel's numbers, as the bits of floats without their sign.
struct TileRange {
  uint32_t least;  // of those that aren't zero, minus one; UINT32_MAX where there is none
  uint32_t most;
};

}  // namespace sgemoe
