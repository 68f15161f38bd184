// Register tiles: C is computed MR rows by NV vectors at a time; op(A) is read in broadcasts, op(B) in vectors along
// the rows of a panel (Goto & van de Geijn 2008).
#include "sgemm_tile.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

template <int MR, int NV>
void tile(const TileArgs& t) {
  Vf sums[MR][NV];
  UNROLL for (int i = 0; i < MR; i++) {
    UNROLL for (int j = 0; j < NV; j++) sums[i][j] = Vf{};
  }
  const float* a = t.a;
  const float* b = t.b;
  for (int64_t p = 0; p < t.k; p++) {
    Vf row[NV];
    UNROLL for (int j = 0; j < NV; j++) row[j] = load(b + j * kLanes);
    UNROLL for (int i = 0; i < MR; i++) {
      const Vf factor = set1(a[i * t.aRow]);
      UNROLL for (int j = 0; j < NV; j++) sums[i][j] = fma(row[j], factor, sums[i][j]);
    }
    a += t.aStep;
    b += t.bStep;
  }
  UNROLL for (int i = 0; i < MR; i++) {
    float* c = t.c + i * t.ldc;
    UNROLL for (int j = 0; j < NV; j++) {
      update(c + j * kLanes, sums[i][j], t.alpha, t.beta, j == NV - 1 ? t.lastLanes : kLanes);
    }
  }
}

}  // namespace

#define TILES_1_TO_6(NV) nullptr, tile<1, NV>, tile<2, NV>, tile<3, NV>, tile<4, NV>, tile<5, NV>, tile<6, NV>
#define TILES_7_TO_12(NV) tile<7, NV>, tile<8, NV>, tile<9, NV>, tile<10, NV>, tile<11, NV>, tile<12, NV>
const TileFn kTiles[kPanelVectors + 1][kMaxTileRows + 1] = {
    {},
#if defined(__AVX512F__) || defined(__ARM_NEON)
    {TILES_1_TO_6(1), TILES_7_TO_12(1), tile<13, 1>, tile<14, 1>},
    {TILES_1_TO_6(2), TILES_7_TO_12(2), tile<13, 2>, tile<14, 2>},
#else
    {TILES_1_TO_6(1), TILES_7_TO_12(1)},
    {TILES_1_TO_6(2)},
#endif
};
#undef TILES_1_TO_6
#undef TILES_7_TO_12

void multiplyPanel(TileArgs t, int64_t m, int64_t cols) {
  const int vectors = cols > kLanes ? 2 : 1;
  t.lastLanes = static_cast<int>(cols - (vectors - 1) * kLanes);
  const int64_t tiles = (m + kTileRows[vectors] - 1) / kTileRows[vectors];
  const int64_t rows = m / tiles, larger = m % tiles;
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t r = rows + (i < larger);
    kTiles[vectors][r](t);
    t.a += r * t.aRow;
    t.c += r * t.ldc;
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
