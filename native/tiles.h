// Matrix products on a matrix unit that multiplies tiles of bfloat16 (Intel AMX), or by vectors of pairs of bfloat16.
#pragma once
#include "kernels/kernels.h"

namespace sgemoe {

// What multiplies packed panels: a matrix unit (tile_product.h), or instructions for vectors (pair_product.h), which only gain where
// both operands are rounded and leave the other two null.
struct TileUnit {
  const char* name;                               // 'amx', 'vdpbf16ps', 'bfmmla', 'model' or 'pairsModel'
  void (*multiplySplit)(const PackedProduct&);    // float32 by float32, both in three parts
  void (*multiplyBfloat16)(const PackedProduct&);  // float32 in three parts by bfloat16
  void (*multiplyRounded)(const PackedProduct&);   // bfloat16 by bfloat16
};

// The processor's unit, which the system has been asked for once. Null where there is none; `refused` is then a sentence if the
// processor has one that can't be used.
const TileUnit* amxUnit(const char** refused);

// A scalar model of the unit with the bits of the real one, for tests on any machine: thousands of times slower.
const TileUnit& modelUnit();

// The processor's instructions for vectors of pairs, by the kernels of `table`. Null where it has none, the table can't use them, or
// they don't gain.
const TileUnit* pairsUnit(const KernelTable* table);

// A scalar model of VDPBF16PS, for tests of its kernel on any machine.
const TileUnit& modelPairsUnit();

// Instructions that the model was given and the processor would refuse, in the whole process: 0 in code that is right.
int64_t modelFaults();

// The ways to multiply on a unit: float32 by float32, float32 by bfloat16, and both operands rounded to bfloat16, of any size.
struct TileWays {
  const TileUnit* unit;
  PanelKernels split, bfloat16, rounded;  // vectors of pairs have the last one alone

  bool splits() const { return unit->multiplySplit != nullptr; }
};

// The ways on `unit` with the packing of `table`; kept for the whole process. Null if one of the two is missing.
const TileWays* tileWays(const KernelTable* table, const TileUnit* unit);

}  // namespace sgemoe
