#include "tiles.h"

#include <deque>
#include <mutex>

#include "tile_layout.h"

namespace sgemoe {
namespace {

// Depth of a block in three parts: a panel of 32 rows is 48 KB then, what the first cache of these processors holds.
constexpr int64_t kDepth = 256;

// Below, a panel of 32 is mostly padding. Not measured for speed: nothing is split unless the user asks (SGEMOE_MATMUL=split).
constexpr int64_t kMinSide = 32;
constexpr double kMinProducts = 32.0 * 32 * 32;

PanelKernels panelsOf(const TileKernels& tiles, int rowParts, int columnParts, void (*multiply)(const PackedProduct&)) {
  PanelKernels panels = {};
  panels.rows = panels.cols = kTilePanel;
  panels.depth = kDepth * kSplitParts / rowParts;
  panels.packRows = rowParts == 1 ? tiles.packBfloat16Rows : tiles.packRows;
  panels.packColumns = columnParts == 1 ? tiles.packBfloat16Columns : tiles.packColumns;
  panels.multiply = multiply;
  panels.rowFloats = tileStepFloats(rowParts);
  panels.colFloats = tileStepFloats(columnParts);
  panels.depthUnit = kTileSteps;
  panels.header = kTileHeader;
  panels.tiles = &tiles;
  if (rowParts == 1) return panels;  // there is no other way
  panels.minProducts = panels.minProductsTransA = kMinProducts;
  panels.minSide = kMinSide;
  return panels;
}

}  // namespace

const TileWays* tileWays(const KernelTable* table, const TileUnit* unit) {
  static auto* const mutex = new std::mutex;
  static auto* const made = new std::deque<TileWays>;
  if (unit == nullptr || table->tiles == nullptr) return nullptr;
  std::lock_guard<std::mutex> lock(*mutex);
  for (const TileWays& ways : *made) {
    if (ways.unit == unit && ways.split.tiles == table->tiles) return &ways;
  }
  const TileKernels& tiles = *table->tiles;
  made->push_back({unit, panelsOf(tiles, kSplitParts, kSplitParts, unit->multiplySplit),
                   panelsOf(tiles, kSplitParts, 1, unit->multiplyBfloat16),
                   panelsOf(tiles, 1, 1, unit->multiplyRounded)});
  return &made->back();
}

}  // namespace sgemoe
