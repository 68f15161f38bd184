// What forward and backward of attention share. The queries of all heads that read one key-value head are the rows of
// a group, query by query, and a tile of rows is one or two vectors wide: a lane is a row. Scores are transposed,
// [keys, lanes], so keys and values are read where they lie, maxima and sums need no step across lanes, and rows that
// see about the same keys share a tile.
#pragma once
#include "attention_product.h"
#include "softmax_row.h"
#include "transpose.h"

namespace sgemoe {
namespace SGEMOE_ISA {

constexpr int64_t kTileLanes = 2 * kLanes;
constexpr int64_t kBlockKeys = 64;  // keys whose scores exist at a time

// The query heads of one sequence that read one key-value head. Offsets are in elements. Row r is query r / size of
// the group's head r % size.
struct Group {
  int64_t sequence, kvHead;
  int64_t size, rows;
  int64_t firstVisible, kvLength;
  int64_t q, k, v, out, lse;

  // The number of keys, from the first on, that a row sees.
  int64_t visible(int64_t row) const { return minOf(firstVisible + row / size, kvLength); }
};

inline Group groupOf(const AttentionShape& s, int64_t index) {
  const int64_t b = index / s.nKvHeads, kvHead = index % s.nKvHeads;
  Group g;
  g.sequence = b;
  g.kvHead = kvHead;
  g.size = s.nHeads / s.nKvHeads;
  g.rows = s.queryLen * g.size;
  g.firstVisible = (int64_t)s.queryStarts[b] + 1;
  g.kvLength = s.kvLengths[b];
  g.q = b * s.queryLen * s.ldq + kvHead * g.size * s.headDim;
  g.out = b * s.queryLen * s.ldo + kvHead * g.size * s.headDim;
  g.k = b * s.kBatchStride + kvHead * s.headDim;
  g.v = b * s.vBatchStride + kvHead * s.headDim;
  g.lse = (b * s.nHeads + kvHead * g.size) * s.queryLen;
  return g;
}

// visit(lane, query, member) for the rows [begin, begin + count).
template <class Visit>
inline void forRows(const Group& g, int64_t begin, int64_t count, Visit visit) {
  int64_t query = begin / g.size, member = begin % g.size;
  for (int64_t lane = 0; lane < count; ++lane) {
    visit(lane, query, member);
    if (++member == g.size) {
      member = 0;
      ++query;
    }
  }
}

inline int64_t paddedDim(int64_t headDim) { return ceilDiv(headDim, kLanes) * kLanes; }

// packed [lanes, padded] = factor * rows [begin, begin + count) of x (q, out or their gradients); zeros elsewhere.
inline void packRows(const Group& g, int64_t begin, int64_t count, int64_t lanes, const float* x, int64_t ld,
                     int64_t headDim, float factor, float* packed) {
  const int64_t padded = paddedDim(headDim);
  const Vf f = set1(factor);
  forRows(g, begin, count, [=](int64_t lane, int64_t query, int64_t member) {
    const float* const from = x + query * ld + member * headDim;
    float* const to = packed + lane * padded;
    forVectors(headDim, [=](auto place, int64_t i) { store(to + i, place.load(from + i) * f); });
  });
  memset(packed + count * padded, 0, (size_t)((lanes - count) * padded) * sizeof(float));
}

inline void unpackRows(const Group& g, int64_t begin, int64_t count, const float* packed, int64_t headDim, float* x,
                       int64_t ld) {
  const int64_t padded = paddedDim(headDim);
  forRows(g, begin, count, [=](int64_t lane, int64_t query, int64_t member) {
    const float* const from = packed + lane * padded;
    float* const to = x + query * ld + member * headDim;
    forVectors(headDim, [=](auto place, int64_t i) { place.store(to + i, load(from + i)); });
  });
}

// limits[lane] = keys that the lane's row sees; 0 for lanes without a row.
inline void rowLimits(const Group& g, int64_t begin, int64_t count, int64_t lanes, int32_t* limits) {
  forRows(g, begin, count, [=](int64_t lane, int64_t query, int64_t) {
    limits[lane] = (int32_t)minOf(g.firstVisible + query, g.kvLength);
  });
  for (int64_t lane = count; lane < lanes; ++lane) limits[lane] = 0;
}

inline Vi loadInts(const int32_t* p) {
  Vi v;
  memcpy(&v, p, sizeof v);
  return v;
}

// The keys and values [first, first + count) of a group; k and v point to the first of them.
struct KeyBlock {
  int64_t first, count;
  const float *k, *v;
  int64_t ldk, ldv;

  KeyBlock from(int64_t j, int64_t n) const { return {first + j, n, k + j * ldk, v + j * ldv, ldk, ldv}; }
};

inline void copyRows(const float* from, int64_t ld, int64_t rows, int64_t cols, float* to, int64_t toLd) {
  for (int64_t r = 0; r < rows; ++r) {
    forVectors(cols, [=](auto place, int64_t i) { store(to + r * toLd + i, place.load(from + r * ld + i)); });
  }
}

constexpr int64_t packedBlockFloats(int64_t padded) { return 2 * kBlockKeys * padded; }

// Copies the rows of a block next to each other into `memory`. Rows of keys lie so far apart that they compete for few
// cache sets and each needs a page, so copying pays if several tiles read them.
inline void packBlock(int64_t headDim, float* memory, KeyBlock* block) {
  const int64_t padded = paddedDim(headDim);
  float* const values = memory + kBlockKeys * padded;
  copyRows(block->k, block->ldk, block->count, headDim, memory, padded);
  copyRows(block->v, block->ldv, block->count, headDim, values, padded);
  block->k = memory;
  block->v = values;
  block->ldk = block->ldv = padded;
}

inline bool allFinite(const float* x, int64_t ld, int64_t rows, int64_t cols) {
  Vf zeros{};
  for (int64_t r = 0; r < rows; ++r) {
    forVectors(cols, [&](auto place, int64_t i) { zeros = fma(place.load(x + r * ld + i), Vf{}, zeros); });
  }
  return hsum(zeros) == 0;
}

// sums [headDim, lanes] (+)= X^T W: X [keys, headDim] keys or values, W [keys, lanes] their weights, 0 where the lane
// does not see the key. `masked`: from this key on some lanes do not. limits: keys that each lane sees.
// 0 times a NaN would reach lanes that don't see it, so rows of X that aren't finite are added lane by lane.
template <int NV>
inline void addWeighted(const float* x, int64_t ld, int64_t headDim, const float* weights, int64_t step, int64_t keys,
                        int64_t masked, const Vi* limits, float* sums, int64_t sumStep, bool add) {
  const bool plain = masked >= keys || allFinite(x + masked * ld, ld, keys - masked, headDim);
  const int64_t depth = plain ? keys : masked;
  multiplyPanel({depth, x, 1, ld, weights, step, sums, sumStep, add}, headDim, NV);
  for (int64_t key = depth; key < keys; ++key) {
    for (int v = 0; v < NV; ++v) {
      const Vi seen = limits[v] > (int32_t)key;
      const Vf weight = load(weights + key * step + v * kLanes);
      for (int64_t d = 0; d < headDim; ++d) {
        float* const sum = sums + d * sumStep + v * kLanes;
        store(sum, select(seen, fma(set1(x[key * ld + d]), weight, load(sum)), load(sum)));
      }
    }
  }
}

// The softmax of a tile over the keys seen so far: largest score and sum of e^(score - max), a lane each; sums of the
// values weighted with the latter, [headDim, lanes].
struct TileState {
  float *max, *sum, *values;
};

// Keys and values [first, first + count) of a group as they are stored; strides in bytes.
struct StoredBlock {
  StorageType type;
  int64_t first, count;
  const uint8_t *k, *v;
  int64_t ldk, ldv;
  int64_t headBytes;  // of a key or value

  StoredBlock from(int64_t j, int64_t n) const {
    return {type, first + j, n, k + j * ldk, v + j * ldv, ldk, ldv, headBytes};
  }
};

// Widens a block into `memory`, packedBlockFloats(paddedDim(headDim)) floats. In attention_stored.cc.
KeyBlock widenBlock(int64_t headDim, const StoredBlock& stored, float* memory);

// Few rows that all see the keys [begin, end), as in decoding, where most lanes of a tile would idle: here lanes run
// along the head dim, a multiple of kLanes. q [rows, headDim] holds scale * q. work: fewRowsFloats(headDim)
// floats. In attention_few_rows.cc.
constexpr int64_t kFewRows = 4;
bool hasFewRows(StorageType type);  // whether keys of this type are read in registers
void attendFewRows(int64_t rows, int64_t headDim, const StoredBlock& keys, const float* q, float* work,
                   const TileState& state);
constexpr int64_t fewRowsFloats(int64_t headDim) { return kFewRows * (headDim + kBlockKeys); }

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
