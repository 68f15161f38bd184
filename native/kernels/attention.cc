// Causal grouped-query attention (Vaswani et al. 2017, eq. 1; Ainslie et al. 2023), in blocks of query rows: the
// scores of one block are all that ever exists of the S x S matrix.
#include "softmax_row.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

constexpr int64_t kBlockRows = 64;

// The queries [begin, begin + rows) of one head. Offsets are in elements.
struct Block {
  int64_t begin, rows;
  int64_t q, k, v, out, lse;  // where this block's (k, v: this head's) first element lies
  int64_t firstVisible;       // keys that query `begin` sees, before kvLength cuts them; each later one sees one more
  int64_t kvLength;
  int64_t cols;               // keys that the last query sees
  int64_t ld;                 // leading dimension of the block's scores

  int64_t visible(int64_t row) const { return minOf(firstVisible + row, kvLength); }
};

Block blockOf(const AttentionShape& s, int64_t b, int64_t head, int64_t begin) {
  const int64_t kvHead = head / (s.nHeads / s.nKvHeads);
  const int64_t row = b * s.queryLen + begin;
  Block block;
  block.begin = begin;
  block.rows = minOf(kBlockRows, s.queryLen - begin);
  block.q = row * s.ldq + head * s.headDim;
  block.out = row * s.ldo + head * s.headDim;
  block.k = b * s.kBatchStride + kvHead * s.headDim;
  block.v = b * s.vBatchStride + kvHead * s.headDim;
  block.lse = (b * s.nHeads + head) * s.queryLen + begin;
  block.firstVisible = (int64_t)s.queryStarts[b] + begin + 1;
  block.kvLength = s.kvLengths[b];
  block.cols = block.visible(block.rows - 1);
  block.ld = divideUp(block.cols, 16) * 16;
  return block;
}

struct Extent {
  int64_t scores;  // elements of the largest block of scores
  double pairs;    // query-key pairs of one head, all sequences, the blocks' unused corners included
  int64_t keys;    // longest key sequence
};

Extent extentOf(const AttentionShape& s) {
  Extent extent{0, 0, 0};
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t cols = minOf((int64_t)s.queryStarts[b] + s.queryLen, s.kvLengths[b]);
    extent.scores = maxOf(extent.scores, minOf(kBlockRows, s.queryLen) * divideUp(cols, 16) * 16);
    extent.pairs += (double)s.queryLen * (double)cols;
    extent.keys = maxOf(extent.keys, s.kvLengths[b]);
  }
  return extent;
}

void zeroRows(float* x, int64_t ld, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) memset(x + r * ld, 0, (size_t)cols * sizeof(float));
}

void zeroBeyond(float* row, int64_t visible, int64_t cols) {
  if (visible < cols) memset(row + visible, 0, (size_t)(cols - visible) * sizeof(float));
}

// Scores of a block: scale * Q K^T, [rows, cols].
void scoresOf(const AttentionShape& s, const Block& a, const float* q, const float* k, float* scores) {
  s.sgemm(false, true, a.rows, a.cols, s.headDim, s.scale, q + a.q, s.ldq, k + a.k, s.ldk, 0.0f, scores, a.ld);
}

void forwardBlock(const AttentionShape& s, const Block& a, const float* q, const float* k, const float* v,
                  float* out, float* lse, float* scores) {
  float inverseSum[kBlockRows];
  scoresOf(s, a, q, k, scores);
  for (int64_t r = 0; r < a.rows; ++r) {
    float* const row = scores + r * a.ld;
    const int64_t visible = a.visible(r);
    const float shift = rowShift(rowMax(row, visible));
    const double sum = expRow(row, row, visible, shift);
    zeroBeyond(row, visible, a.cols);
    inverseSum[r] = inverseOrZero(sum);
    lse[a.lse + r] = (float)(__builtin_log(sum) + shift);
  }
  s.sgemm(false, false, a.rows, s.headDim, a.cols, 1.0f, scores, a.ld, v + a.v, s.ldv, 0.0f, out + a.out, s.ldo);
  for (int64_t r = 0; r < a.rows; ++r) scaleRow(out + a.out + r * s.ldo, s.headDim, inverseSum[r]);
}

struct BackwardArrays {
  const float *q, *k, *v, *out, *lse, *dOut;
  float* dq;
};

// Where the gradient of one head's keys or values is added up.
struct Target {
  float* data;
  int64_t ld;
};

// P from the scores and lse; dS = P (dP - dOut.out) in place of dP.
void backwardRow(const float* out, const float* dOut, int64_t headDim, float lse, int64_t visible, float* p,
                 float* dp) {
  const Vf dot = set1(hsum(sumVectors(
      headDim, [=](auto place, int64_t i) { return place.load(out + i) * place.load(dOut + i); })));
  const Vf shift = set1(lse);
  forVectors(visible, [=](auto place, int64_t i) {
    const Vf probability = vexp(place.load(p + i) - shift);
    place.store(p + i, probability);
    place.store(dp + i, probability * (place.load(dp + i) - dot));
  });
}

void backwardBlock(const AttentionShape& s, const Block& a, const BackwardArrays& x, Target dk, Target dv, float* p,
                   float* dp) {
  scoresOf(s, a, x.q, x.k, p);
  s.sgemm(false, true, a.rows, a.cols, s.headDim, 1.0f, x.dOut + a.out, s.ldo, x.v + a.v, s.ldv, 0.0f, dp, a.ld);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float lse = x.lse[a.lse + r];
    // lse = -inf: nothing was seen, or nothing but scores of -inf; either way the output was zeros.
    const int64_t visible = lse == -kInfinity ? 0 : a.visible(r);
    const int64_t at = a.out + r * s.ldo;
    backwardRow(x.out + at, x.dOut + at, s.headDim, lse, visible, p + r * a.ld, dp + r * a.ld);
    zeroBeyond(p + r * a.ld, visible, a.cols);
    zeroBeyond(dp + r * a.ld, visible, a.cols);
  }
  s.sgemm(true, false, a.cols, s.headDim, a.rows, 1.0f, p, a.ld, x.dOut + a.out, s.ldo, 1.0f, dv.data, dv.ld);
  s.sgemm(true, false, a.cols, s.headDim, a.rows, s.scale, dp, a.ld, x.q + a.q, s.ldq, 1.0f, dk.data, dk.ld);
  s.sgemm(false, false, a.rows, s.headDim, a.cols, s.scale, dp, a.ld, x.k + a.k, s.ldk, 0.0f, x.dq + a.q, s.ldq);
}

void backwardHead(const AttentionShape& s, int64_t b, int64_t head, const BackwardArrays& x, Target dk, Target dv,
                  float* scores, int64_t scoresSize) {
  const int64_t keys = s.kvLengths[b];
  zeroRows(dk.data, dk.ld, keys, s.headDim);
  zeroRows(dv.data, dv.ld, keys, s.headDim);
  for (int64_t begin = 0; begin < s.queryLen; begin += kBlockRows) {
    const Block block = blockOf(s, b, head, begin);
    if (block.cols == 0) {
      zeroRows(x.dq + block.q, s.ldq, block.rows, s.headDim);
    } else {
      backwardBlock(s, block, x, dk, dv, scores, scores + scoresSize);
    }
  }
}

void addRows(const float* from, float* to, int64_t ld, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* const source = from + r * cols;
    float* const target = to + r * ld;
    forVectors(cols, [=](auto place, int64_t i) {
      place.store(target + i, place.load(target + i) + place.load(source + i));
    });
  }
}

}  // namespace

void attentionForward(const AttentionShape& shape, const float* q, const float* k, const float* v, float* out,
                      float* lse) {
  const AttentionShape& s = shape;
  const int64_t blocks = divideUp(s.queryLen, kBlockRows), heads = s.batch * s.nHeads;
  if (blocks * heads == 0 || s.headDim == 0) return;
  const Extent extent = extentOf(s);
  ScratchParts parts(blocks * heads, extent.scores);
  auto chunk = [&](int64_t i) {
    // The last queries see the most keys: those blocks go first, so that no thread is left alone with one.
    const int64_t begin = (blocks - 1 - i / heads) * kBlockRows, b = i % heads / s.nHeads, head = i % s.nHeads;
    const Block block = blockOf(s, b, head, begin);
    if (block.cols == 0) {
      zeroRows(out + block.out, s.ldo, block.rows, s.headDim);
      for (int64_t r = 0; r < block.rows; ++r) lse[block.lse + r] = -kInfinity;
      return;
    }
    float* const scores = parts.take();
    forwardBlock(s, block, q, k, v, out, lse, scores);
    parts.giveBack(scores);
  };
  const double work = extent.pairs * (double)s.nHeads * (0.4 + 0.08 * (double)s.headDim);
  parallelChunks(blocks * heads, work, chunk);
}

// One chunk a head. The first head of a kv head's group writes dk and dv themselves, the others sums of their own,
// which are then added in the order of the heads.
void attentionBackward(const AttentionShape& shape, const float* q, const float* k, const float* v, const float* out,
                       const float* lse, const float* dOut, float* dq, float* dk, float* dv) {
  const AttentionShape& s = shape;
  const int64_t heads = s.batch * s.nHeads;
  if (heads == 0 || s.headDim == 0) return;
  const int64_t group = s.nHeads / s.nKvHeads, kvHeads = s.batch * s.nKvHeads;
  const Extent extent = extentOf(s);
  const int64_t sumSize = extent.keys * s.headDim;
  const Scratch sums(kvHeads * (group - 1) * 2 * sumSize);
  ScratchParts parts(heads, 2 * extent.scores);
  const BackwardArrays arrays{q, k, v, out, lse, dOut, dq};
  auto ownSum = [&](int64_t kvHead, int64_t member) {
    return sums.data() + (kvHead * (group - 1) + member - 1) * 2 * sumSize;
  };
  auto dkOf = [&](int64_t kvHead) {
    return dk + kvHead / s.nKvHeads * s.kBatchStride + kvHead % s.nKvHeads * s.headDim;
  };
  auto dvOf = [&](int64_t kvHead) {
    return dv + kvHead / s.nKvHeads * s.vBatchStride + kvHead % s.nKvHeads * s.headDim;
  };

  auto chunk = [&](int64_t i) {
    const int64_t kvHead = i / group, member = i % group;
    Target dkTarget{dkOf(kvHead), s.ldk}, dvTarget{dvOf(kvHead), s.ldv};
    if (member > 0) {
      dkTarget = {ownSum(kvHead, member), s.headDim};
      dvTarget = {ownSum(kvHead, member) + sumSize, s.headDim};
    }
    float* const scores = parts.take();
    backwardHead(s, i / s.nHeads, i % s.nHeads, arrays, dkTarget, dvTarget, scores, extent.scores);
    parts.giveBack(scores);
  };
  parallelChunks(heads, extent.pairs * (double)s.nHeads * (0.6 + 0.2 * (double)s.headDim), chunk);

  if (group == 1) return;
  forChunks(kvHeads, 0.3 * (double)((group - 1) * 2 * sumSize) + 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t kvHead = begin; kvHead < end; ++kvHead) {
      const int64_t keys = s.kvLengths[kvHead / s.nKvHeads];
      for (int64_t member = 1; member < group; ++member) {
        addRows(ownSum(kvHead, member), dkOf(kvHead), s.ldk, keys, s.headDim);
        addRows(ownSum(kvHead, member) + sumSize, dvOf(kvHead), s.ldv, keys, s.headDim);
      }
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
