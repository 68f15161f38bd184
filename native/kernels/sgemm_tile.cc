// Register tiles: C is computed MR rows by NV vectors at a time; op(A) is read in broadcasts, op(B) in vectors along
// the rows of a panel (Goto & van de Geijn 2008).
#include "sgemm_tile.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

template <int MR, int NV>
inline void finish(Vf (&sums)[MR][NV], const TileArgs& t) {
  float* const c = t.c;
  const int64_t ldc = t.ldc;
  const int lanes = t.lastLanes;
  const Vf alpha = set1(t.alpha), beta = set1(t.beta);
  const bool keepsC = t.beta != 0;
  if (t.alpha != 1) {
    UNROLL for (int i = 0; i < MR; i++) {
      UNROLL for (int j = 0; j < NV; j++) sums[i][j] *= alpha;
    }
  }
  if (keepsC) {
    UNROLL for (int i = 0; i < MR; i++) {
      UNROLL for (int j = 0; j < NV; j++) {
        const float* from = c + i * ldc + j * kLanes;
        sums[i][j] = fma(j < NV - 1 ? load(from) : loadLanes(from, lanes), beta, sums[i][j]);
      }
    }
  }
  UNROLL for (int i = 0; i < MR; i++) {
    UNROLL for (int j = 0; j < NV; j++) {
      float* to = c + i * ldc + j * kLanes;
      if (j < NV - 1) {
        store(to, sums[i][j]);
      } else {
        storeLanes(to, sums[i][j], lanes);
      }
    }
  }
}

template <int MR, int NV, bool Fetches>
inline void accumulate(Vf (&sums)[MR][NV], const TileArgs& t) {
  const int64_t aRow = t.aRow, aStep = t.aStep, bStep = t.bStep, aheadStep = t.ahead.step,
                aheadTurn = t.ahead.turn;
  RowPointers<MR> a(t.a, aRow);
  const float *b = t.b, *ahead = t.ahead.at;
  {
    Vf row[NV];
    UNROLL for (int j = 0; j < NV; j++) row[j] = load(b + j * kLanes);
    UNROLL for (int i = 0; i < MR; i++) {
      const Vf factor = set1(*a.row(i, aRow));
      UNROLL for (int j = 0; j < NV; j++) sums[i][j] = row[j] * factor;
    }
  }
  for (int64_t p = 1; p < t.k; p++) {
    a.advance(aStep);
    b += bStep;
    if (Fetches) {
      prefetchFar(ahead);
      ahead += aheadStep;
      if (p % 16 == 0) ahead += aheadTurn;
    }
    Vf row[NV];
    UNROLL for (int j = 0; j < NV; j++) row[j] = load(b + j * kLanes);
    UNROLL for (int i = 0; i < MR; i++) {
      const Vf factor = set1(*a.row(i, aRow));
      UNROLL for (int j = 0; j < NV; j++) sums[i][j] = fma(row[j], factor, sums[i][j]);
    }
  }
}

template <int MR, int NV>
void tile(const TileArgs& t) {
  Vf sums[MR][NV];
  if (t.ahead.at == nullptr) {
    accumulate<MR, NV, false>(sums, t);
  } else {
    accumulate<MR, NV, true>(sums, t);
  }
  finish(sums, t);
}

}  // namespace

#define TILES_1_TO_4(NV) nullptr, tile<1, NV>, tile<2, NV>, tile<3, NV>, tile<4, NV>
#define TILES_1_TO_6(NV) TILES_1_TO_4(NV), tile<5, NV>, tile<6, NV>
#define TILES_7_TO_12(NV) tile<7, NV>, tile<8, NV>, tile<9, NV>, tile<10, NV>, tile<11, NV>, tile<12, NV>
const TileFn kTiles[kPanelVectors + 1][kMaxTileRows + 1] = {
    {},
#if defined(__AVX512F__) || defined(__aarch64__)
    {TILES_1_TO_6(1), TILES_7_TO_12(1), tile<13, 1>, tile<14, 1>},
    {TILES_1_TO_6(2), TILES_7_TO_12(2), tile<13, 2>, tile<14, 2>},
#elif defined(__wasm_simd128__)
    {TILES_1_TO_6(1), tile<7, 1>, tile<8, 1>},
    {TILES_1_TO_4(2)},
#else
    {TILES_1_TO_6(1), TILES_7_TO_12(1)},
    {TILES_1_TO_6(2)},
#endif
};
#undef TILES_1_TO_4
#undef TILES_1_TO_6
#undef TILES_7_TO_12

void multiplyPanel(TileArgs t, int64_t m, int64_t cols) {
  const int vectors = cols > kLanes ? 2 : 1;
  t.lastLanes = static_cast<int>(cols - (vectors - 1) * kLanes);
  const int64_t tiles = ceilDiv(m, kTileRows[vectors]);
  const int64_t rows = m / tiles, larger = m % tiles;
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t r = rows + (i < larger);
    kTiles[vectors][r](t);
    t.a += r * t.aRow;
    t.c += r * t.ldc;
    t.ahead.at = i + 1 < t.ahead.tiles && t.ahead.at != nullptr ? t.ahead.at + t.ahead.tile : nullptr;
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
