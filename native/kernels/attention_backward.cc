// The backward of causal grouped-query attention. It computes the probabilities again from the scores and the row
// log-sum-exp (Dao et al. 2022, appendix B.2), for a span of rows and a block of keys at a time.
#include "attention_tile.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

constexpr int64_t kSpanTiles = 4;
constexpr int64_t kSpanLanes = kSpanTiles * kTileLanes;  // rows whose gradients are worked on together

struct BackwardArrays {
  const float *q, *k, *v, *out, *lse, *dOut;
  float *dq, *dk, *dv;
};

// Sums of the gradients of one group's keys and values, [keys, padded head dim] each.
struct KeyGradients {
  float *dk, *dv;
};

// A span's rows and everything computed from them. Rows are stored as they are, [lanes, padded], and transposed,
// [padded, lanes].
struct Span {
  int64_t begin, count, lanes;
  float *q, *dOut;          // rows; q times scale
  float *qT, *dOutT, *dqT;  // transposed
  float *p, *ds;            // [keys of a block, lanes]: probabilities and gradients of scores
  float* block;             // a block of keys and values
  float lse[kSpanLanes];
  float dots[kSpanLanes];  // dOut . out
  int32_t limits[kSpanLanes];
};

int64_t spanFloats(int64_t headDim) {
  const int64_t padded = paddedDim(headDim);
  return (5 * padded + 2 * kBlockKeys) * kSpanLanes + packedBlockFloats(padded);
}

void placeIn(float* memory, int64_t headDim, Span* span) {
  float** const rows[] = {&span->q, &span->dOut, &span->qT, &span->dOutT, &span->dqT};
  for (float** part : rows) {
    *part = memory;
    memory += paddedDim(headDim) * kSpanLanes;
  }
  span->p = memory;
  span->ds = span->p + kBlockKeys * kSpanLanes;
  span->block = span->ds + kBlockKeys * kSpanLanes;
}

void readSpan(const AttentionShape& s, const Group& g, const BackwardArrays& x, int64_t begin, Span* span) {
  const int64_t padded = paddedDim(s.headDim);
  span->begin = begin;
  span->count = minOf(kSpanLanes, g.rows - begin);
  span->lanes = roundUp(span->count, kLanes);
  const auto read = [&](const float* from, int64_t ld, float factor, float* rows, float* transposed) {
    packRows(g, begin, span->count, span->lanes, from, ld, s.headDim, factor, rows);
    transpose(rows, padded, span->lanes, padded, transposed, kSpanLanes);
  };
  read(x.dOut + g.out, s.ldo, 1.0f, span->dOut, span->dOutT);
  read(x.out + g.out, s.ldo, 1.0f, span->q, span->qT);  // in the place of q, for the dots
  for (int64_t lane = 0; lane < span->lanes; lane += kLanes) {
    // The sum has the order of the product with the values: if a row sees only one key, out is its value and
    // dP - dOut.out is exactly 0.
    Vf dot{};
    for (int64_t i = lane; i < s.headDim * kSpanLanes; i += kSpanLanes) {
      dot = fma(load(span->dOutT + i), load(span->qT + i), dot);
    }
    store(span->dots + lane, dot);
    store(span->lse + lane, Vf{});
  }
  read(x.q + g.q, s.ldq, s.scale, span->q, span->qT);
  rowLimits(g, begin, span->count, span->lanes, span->limits);
  forRows(g, begin, span->count, [&](int64_t lane, int64_t query, int64_t member) {
    span->lse[lane] = x.lse[g.lse + member * s.queryLen + query];
    // The row saw no keys, or only scores of -inf; in both cases the output was zeros.
    if (span->lse[lane] == -kInfinity) span->limits[lane] = 0;
  });
}

// Replaces the scores by P = e^(S - lse) and dP by dS = P (dP - dOut.out); both are 0 where a lane doesn't see the key.
template <int NV>
void softmaxGradient(const float* lse, const float* dots, int64_t keys, int64_t masked, const Vi* limits, float* p,
                     float* ds) {
  Vf shift[NV], dot[NV];
  for (int v = 0; v < NV; ++v) {
    shift[v] = load(lse + v * kLanes);
    dot[v] = load(dots + v * kLanes);
  }
  const auto gradient = [&](int64_t key, auto seen) {
    for (int v = 0; v < NV; ++v) {
      float *const pAt = p + key * kSpanLanes + v * kLanes, *const dsAt = ds + key * kSpanLanes + v * kLanes;
      const Vf probability = vexp(load(pAt) - shift[v]);
      store(pAt, seen(v, probability));
      store(dsAt, seen(v, probability * (load(dsAt) - dot[v])));
    }
  };
  for (int64_t key = 0; key < masked; ++key) gradient(key, [](int, Vf x) { return x; });
  for (int64_t key = masked; key < keys; ++key) {
    gradient(key, [&](int v, Vf x) { return select(limits[v] > (int32_t)key, x, Vf{}); });
  }
}

// Computes P, dS and their part of dq for one tile of a span, at its lane `at`, and the keys of a block that it sees.
template <int NV>
void backwardTile(int64_t headDim, const Span& span, int64_t at, const KeyBlock& block, int64_t seen) {
  float *const p = span.p + at, *const ds = span.ds + at;
  multiplyPanel({headDim, block.k, block.ldk, 1, span.qT + at, kSpanLanes, p, kSpanLanes, false}, seen, NV);
  multiplyPanel({headDim, block.v, block.ldv, 1, span.dOutT + at, kSpanLanes, ds, kSpanLanes, false}, seen, NV);
  Vi limits[NV];
  for (int i = 0; i < NV; ++i) limits[i] = loadInts(span.limits + at + i * kLanes) - (int32_t)block.first;
  int32_t least = span.limits[at];
  for (int64_t lane = at; lane < minOf(at + NV * kLanes, span.count); ++lane) {
    if (span.limits[lane] < least) least = span.limits[lane];
  }
  const int64_t masked = minOf(seen, maxOf(0, least - block.first));
  softmaxGradient<NV>(span.lse + at, span.dots + at, seen, masked, limits, p, ds);
  addWeighted<NV>(block.k, block.ldk, headDim, ds, kSpanLanes, seen, masked, limits, span.dqT + at, kSpanLanes, true);
}

void zero(float* x, int64_t n) { memset(x, 0, (size_t)n * sizeof(float)); }

// Computes dq of a span and a block of keys, and adds their parts to dk and dv.
void backwardBlock(const AttentionShape& s, const Group& g, const Span& span, const KeyBlock& block,
                   KeyGradients sums) {
  const int64_t padded = paddedDim(s.headDim), vectors = padded / kLanes;
  int64_t first = span.lanes;  // lanes before it see none of these keys
  for (int64_t at = 0; at < span.lanes; at += kTileLanes) {
    const int64_t last = minOf(at + kTileLanes, span.count) - 1;
    const int64_t seen = minOf(block.count, g.visible(span.begin + last) - block.first);
    if (seen <= 0) continue;
    first = minOf(first, at);
    const bool narrow = span.lanes - at == kLanes;
    (narrow ? backwardTile<1> : backwardTile<2>)(s.headDim, span, at, block, seen);
    for (int64_t j = seen; j < block.count; ++j) {
      zero(span.p + j * kSpanLanes + at, narrow ? kLanes : kTileLanes);
      zero(span.ds + j * kSpanLanes + at, narrow ? kLanes : kTileLanes);
    }
  }
  const auto add = [&](const float* weights, const float* rows, float* sum) {
    multiply({span.lanes - first, weights + first, kSpanLanes, 1, rows + first * padded, padded,
              sum + block.first * padded, padded, true},
             block.count, vectors);
  };
  add(span.p, span.dOut, sums.dv);
  add(span.ds, span.q, sums.dk);
}

void backwardSpan(const AttentionShape& s, const Group& g, const BackwardArrays& x, int64_t begin, Span* span,
                  KeyGradients sums) {
  const int64_t padded = paddedDim(s.headDim);
  readSpan(s, g, x, begin, span);
  zero(span->dqT, padded * kSpanLanes);
  const KeyBlock keys{0, g.visible(begin + span->count - 1), x.k + g.k, x.v + g.v, s.ldk, s.ldv};
  for (int64_t j = 0; j < keys.count; j += kBlockKeys) {
    KeyBlock block = keys.from(j, minOf(kBlockKeys, keys.count - j));
    if (span->lanes > kTileLanes) packBlock(s.headDim, span->block, &block);
    backwardBlock(s, g, *span, block, sums);
  }
  transpose(span->dqT, kSpanLanes, padded, span->lanes, span->q, padded);
  for (int64_t i = 0; i < span->count * padded; i += kLanes) store(span->q + i, load(span->q + i) * set1(s.scale));
  unpackRows(g, begin, span->count, span->q, s.headDim, x.dq + g.q, s.ldq);
}

// The cut of the work: the spans of a group are dealt out to several parts, each with its own sums.
struct Plan {
  int64_t groups, spansPerGroup, parts;
  int64_t keys;  // most keys of a sequence
  double pairs;
};

// Most parts of all groups together: kManyParts while their sums fit into kMostSums, else kFewParts.
constexpr int64_t kManyParts = 32, kFewParts = 8;
constexpr int64_t kMostSums = int64_t{2} << 20;  // floats
constexpr double kPartPairs = 65536;  // less work doesn't justify separate sums

Plan planOf(const AttentionShape& s) {
  const int64_t rows = s.queryLen * (s.nHeads / s.nKvHeads);
  Plan plan{s.batch * s.nKvHeads, ceilDiv(rows, kSpanLanes), 1, 0, 0};
  for (int64_t b = 0; b < s.batch; ++b) {
    plan.keys = maxOf(plan.keys, s.kvLengths[b]);
    const int64_t visible = minOf((int64_t)s.queryStarts[b] + s.queryLen, s.kvLengths[b]);
    plan.pairs += (double)rows * (double)visible * (double)s.nKvHeads;
  }
  const int64_t worthwhile = (int64_t)(plan.pairs / (double)plan.groups / kPartPairs);
  const int64_t held = kMostSums / (2 * plan.keys * paddedDim(s.headDim) + 1);
  const int64_t enough = maxOf(kFewParts, minOf(kManyParts, held)) / plan.groups;
  plan.parts = maxOf(1, minOf(minOf(enough, worthwhile), plan.spansPerGroup));
  return plan;
}

// Part `part` of a group: every parts-th span, so that all parts have about the same number of pairs.
void backwardPart(const AttentionShape& s, const Plan& plan, const Group& g, int64_t part, const BackwardArrays& x,
                  float* memory, KeyGradients sums) {
  const int64_t padded = paddedDim(s.headDim);
  Span span;
  placeIn(memory, s.headDim, &span);
  zero(sums.dk, g.kvLength * padded);
  zero(sums.dv, g.kvLength * padded);
  for (int64_t i = part; i < plan.spansPerGroup; i += plan.parts) {
    backwardSpan(s, g, x, i * kSpanLanes, &span, sums);
  }
}

// dst rows [begin, end) = the total of the parts' sums, in their order.
void addUp(const float* sums, int64_t stride, int64_t parts, int64_t begin, int64_t end, int64_t headDim, float* dst,
           int64_t ld) {
  const int64_t padded = paddedDim(headDim);
  for (int64_t j = begin; j < end; ++j) {
    forVectors(headDim, [=](auto place, int64_t i) {
      Vf sum = load(sums + j * padded + i);
      for (int64_t part = 1; part < parts; ++part) sum += load(sums + part * stride + j * padded + i);
      place.store(dst + j * ld + i, sum);
    });
  }
}

}  // namespace

void attentionBackward(const AttentionShape& shape, const float* q, const float* k, const float* v, const float* out,
                       const float* lse, const float* dOut, float* dq, float* dk, float* dv) {
  const AttentionShape& s = shape;
  if (s.batch * s.nHeads * s.queryLen == 0 || s.headDim == 0) return;
  const BackwardArrays x{q, k, v, out, lse, dOut, dq, dk, dv};
  const Plan plan = planOf(s);
  const int64_t chunks = plan.groups * plan.parts;
  const int64_t sumSize = plan.keys * paddedDim(s.headDim);
  // A part that is a whole group only needs its sums while it runs.
  const bool split = plan.parts > 1;
  ScratchParts parts(chunks, spanFloats(s.headDim) + (split ? 0 : 2 * sumSize), split ? chunks * 2 * sumSize : 0);
  float* const sums = parts.shared();

  const auto finish = [&](const Group& g, const float* of, int64_t begin, int64_t end) {
    addUp(of, 2 * sumSize, plan.parts, begin, end, s.headDim, x.dk + g.k, s.ldk);
    addUp(of + sumSize, 2 * sumSize, plan.parts, begin, end, s.headDim, x.dv + g.v, s.ldv);
  };
  auto chunk = [&](int64_t i) {
    const Group g = groupOf(s, i / plan.parts);
    float* const memory = parts.take();
    float* const own = split ? sums + i * 2 * sumSize : memory + spanFloats(s.headDim);
    backwardPart(s, plan, g, i % plan.parts, x, memory, {own, own + sumSize});
    if (!split) finish(g, own, 0, g.kvLength);
    parts.giveBack(memory);
  };
  parallelChunks(chunks, plan.pairs * (cost::kAttentionBackwardPair + cost::kAttentionBackward * (double)s.headDim), chunk);

  if (!split) return;
  const int64_t slices = ceilDiv(plan.keys, kBlockKeys);
  const double nsPerSlice = cost::kKeyGradientSum * (double)(kBlockKeys * plan.parts * s.headDim);
  forChunks(plan.groups * slices, nsPerSlice, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Group g = groupOf(s, i / slices);
      const int64_t from = i % slices * kBlockKeys;
      finish(g, sums + i / slices * plan.parts * 2 * sumSize, from, minOf(from + kBlockKeys, g.kvLength));
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
