#include "tiles.h"

#include <deque>
#include <mutex>

#include "tile_layout.h"

namespace sgemoe {
namespace {

// Depth of a block: a panel of 32 rows in three parts is 48 KB then, what the first cache of these processors holds.
constexpr int64_t kDepth = 256;

// Below, a panel of 32 is mostly padding. Not measured for speed: nothing is split unless the user asks (SGEMOE_MATMUL=split).
constexpr int64_t kMinSide = 32;
constexpr double kMinProducts = 32.0 * 32 * 32;

PanelKernels panelsOf(const TileKernels& tiles, bool split, void (*multiply)(const PackedProduct&)) {
  PanelKernels panels = {};
  panels.rows = panels.cols = kTilePanel;
  panels.depth = kDepth;
  panels.minProducts = panels.minProductsTransA = kMinProducts;
  panels.packRows = tiles.packRows;
  panels.packColumns = split ? tiles.packColumns : tiles.packBfloat16Columns;
  panels.multiply = multiply;
  panels.rowFloats = tileStepFloats(kSplitParts);
  panels.colFloats = tileStepFloats(split ? kSplitParts : 1);
  panels.depthUnit = kTileSteps;
  panels.header = kTileHeader;
  panels.minSide = kMinSide;
  panels.tiles = &tiles;
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
  made->push_back({unit, panelsOf(*table->tiles, true, unit->multiplySplit),
                   panelsOf(*table->tiles, false, unit->multiplyBfloat16)});
  return &made->back();
}

}  // namespace sgemoe
