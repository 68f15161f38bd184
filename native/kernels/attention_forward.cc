// Causal grouped-query attention (Vaswani et al. 2017, eq. 1; Ainslie et al. 2023) in blocks of keys, with the softmax
// corrected from block to block (Milakov & Gimelshein 2018; Dao et al. 2022): only the scores of 64 keys exist at a time.
#include "attention_tile.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

struct Tile {
  int64_t begin, count;  // rows of the group
  int64_t vectors;       // lanes in use, in vectors
  int32_t limits[kTileLanes];

  int64_t lanes() const { return vectors * kLanes; }
};

Tile tileAt(const Group& g, int64_t index) {
  Tile t;
  t.begin = index * kTileLanes;
  t.count = minOf(kTileLanes, g.rows - t.begin);
  t.vectors = ceilDiv(t.count, kLanes);
  rowLimits(g, t.begin, t.count, t.lanes(), t.limits);
  return t;
}

int64_t stateFloats(int64_t headDim) { return (2 + paddedDim(headDim)) * kTileLanes; }

TileState stateIn(float* memory) { return {memory, memory + kTileLanes, memory + 2 * kTileLanes}; }

void reset(const Tile& t, const TileState& state) {
  for (int64_t lane = 0; lane < t.lanes(); lane += kLanes) {
    store(state.max + lane, set1(-kInfinity));
    store(state.sum + lane, Vf{});
  }
}

// log x for x >= 1 or NaN: from the exponent bits, at most 0.06 off, by two of Halley's steps on e^y = x, each of which
// cubes the error (over 12).
Vf logOfSum(Vf x) {
  const Vf kOne = set1(1.0f);
  Vf y = __builtin_convertvector((Vi)x - (Vi)kOne, Vf) * set1(8.26295829e-8f);  // ln 2 / 2^23
  for (int step = 0; step < 2; ++step) {
    const Vf e = vexp(y);
    y = y + set1(2.0f) * ((x - e) / (x + e));
  }
  return y;
}

// Replaces scores [keys, NV vectors] by e^(score - max), 0 where a lane doesn't see the key. It updates max and sum;
// correction is the factor of everything summed up before.
template <int NV>
void softmaxBlock(float* scores, int64_t keys, int64_t masked, const Vi* limits, const TileState& state,
                  Vf* correction) {
  for (int64_t key = masked; key < keys; ++key) {
    for (int v = 0; v < NV; ++v) {
      float* const at = scores + key * kTileLanes + v * kLanes;
      store(at, select(limits[v] > (int32_t)key, load(at), set1(-kInfinity)));
    }
  }
  Vf max[NV], shift[NV], sum[NV];
  for (int v = 0; v < NV; ++v) {
    max[v] = load(state.max + v * kLanes);
    sum[v] = Vf{};
  }
  for (int64_t key = 0; key < keys; ++key) {
    // A NaN may be passed over: the exponentials carry it on.
    for (int v = 0; v < NV; ++v) max[v] = vmax(load(scores + key * kTileLanes + v * kLanes), max[v]);
  }
  for (int v = 0; v < NV; ++v) {
    // 0 instead of -inf, so that rows of -inf become zeros.
    shift[v] = select(max[v] == set1(-kInfinity), Vf{}, max[v]);
    correction[v] = vexp(load(state.max + v * kLanes) - shift[v]);
    store(state.max + v * kLanes, max[v]);
  }
  for (int64_t key = 0; key < keys; ++key) {
    for (int v = 0; v < NV; ++v) {
      float* const at = scores + key * kTileLanes + v * kLanes;
      const Vf e = vexp(load(at) - shift[v]);
      store(at, e);
      sum[v] += e;
    }
  }
  for (int v = 0; v < NV; ++v) {
    float* const at = state.sum + v * kLanes;
    store(at, fma(load(at), correction[v], sum[v]));
  }
}

// The keys of a block that a tile sees, `seen` of them. queries: [headDim, lanes], scale * q.
template <int NV>
void attend(int64_t headDim, const Tile& t, const KeyBlock& block, int64_t seen, const float* queries, float* scores,
            const TileState& state, bool first) {
  const int64_t masked = minOf(seen, maxOf(0, t.limits[0] - block.first));
  Vi limits[NV];
  for (int i = 0; i < NV; ++i) limits[i] = loadInts(t.limits + i * kLanes) - (int32_t)block.first;
  multiplyPanel({headDim, block.k, block.ldk, 1, queries, kTileLanes, scores, kTileLanes, false}, seen, NV);
  Vf correction[NV];
  softmaxBlock<NV>(scores, seen, masked, limits, state, correction);
  for (int64_t d = 0; !first && d < headDim; ++d) {
    for (int i = 0; i < NV; ++i) {
      float* const at = state.values + d * kTileLanes + i * kLanes;
      store(at, load(at) * correction[i]);
    }
  }
  addWeighted<NV>(block.v, block.ldv, headDim, scores, kTileLanes, seen, masked, limits, state.values, kTileLanes,
                  !first);
}

// out = values / sum, lse = max + log(sum); zeros and -inf where nothing was seen.
void finish(const AttentionShape& s, const Group& g, const Tile& t, const TileState& state, float* packed, float* out,
            float* lse) {
  float lseOfLane[kTileLanes];
  const int64_t padded = paddedDim(s.headDim);
  for (int64_t lane = 0; lane < t.lanes(); lane += kLanes) {
    const Vf sum = load(state.sum + lane), none = set1(0);
    const Vi empty = sum == none;
    const Vf inverse = select(empty, none, set1(1) / sum);
    for (int64_t d = 0; d < s.headDim; ++d) {
      float* const at = state.values + d * kTileLanes + lane;
      store(at, select(empty, none, load(at) * inverse));
    }
    store(lseOfLane + lane, select(empty, set1(-kInfinity), logOfSum(sum) + load(state.max + lane)));
  }
  transpose(state.values, kTileLanes, padded, t.lanes(), packed, padded);
  unpackRows(g, t.begin, t.count, packed, s.headDim, out + g.out, s.ldo);
  forRows(g, t.begin, t.count, [&](int64_t lane, int64_t query, int64_t member) {
    lse[g.lse + member * s.queryLen + query] = lseOfLane[lane];
  });
}

// Tiles that read the keys together, a block at a time.
constexpr int64_t kSpanTiles = 8;
constexpr int64_t kSpanLanes = kSpanTiles * kTileLanes;

// The cut of the work. Spans are independent of each other. If they are few and see many keys, as in decoding, their keys
// are cut into segments too, whose results are merged in their order. Decoding takes segments for many spans as well: the heads
// of a sequence then read their keys, which lie side by side, at about the same time.
struct Plan {
  int64_t groups, spansPerGroup, tilesPerSpan, segments, segmentKeys;
  double pairs;  // query-key pairs, those that the causal mask hides included

  int64_t spans() const { return groups * spansPerGroup; }
};

constexpr int64_t kSegmentKeys = 8 * kBlockKeys;
constexpr int64_t kEnoughSpans = 16;
constexpr int64_t kMostStateFloats = 2 << 20;  // of segments that aren't needed to keep the threads busy

Plan planOf(const AttentionShape& s) {
  const int64_t rows = s.queryLen * (s.nHeads / s.nKvHeads);
  Plan plan{s.batch * s.nKvHeads, ceilDiv(rows, kSpanLanes), minOf(kSpanTiles, ceilDiv(rows, kTileLanes)), 1, 0, 0};
  int64_t keys = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t visible = minOf((int64_t)s.queryStarts[b] + s.queryLen, s.kvLengths[b]);
    keys = maxOf(keys, visible);
    plan.pairs += (double)s.queryLen * (double)visible * (double)s.nHeads;
  }
  const int64_t segments = maxOf(1, ceilDiv(keys, kSegmentKeys));
  const int64_t states = plan.spans() * plan.tilesPerSpan * segments * stateFloats(s.headDim);
  const bool sharesKeys = s.queryLen == 1 && s.nKvHeads > 1 && states <= kMostStateFloats;
  if (plan.spans() < kEnoughSpans || sharesKeys) plan.segments = segments;
  plan.segmentKeys = plan.segments == 1 ? keys : kSegmentKeys;
  return plan;
}

struct Span {
  Group group;
  int64_t tiles;
  Tile tile[kSpanTiles];

  int64_t visible(int64_t i) const { return group.visible(tile[i].begin + tile[i].count - 1); }
};

// Later spans see more keys, so they go first: no thread then ends alone with a long one. Spans of a group follow each
// other, because they read the same keys.
void spanAt(const AttentionShape& s, const Plan& plan, int64_t index, Span* span) {
  span->group = groupOf(s, index / plan.spansPerGroup);
  const int64_t first = (plan.spansPerGroup - 1 - index % plan.spansPerGroup) * kSpanTiles;
  span->tiles = minOf(kSpanTiles, ceilDiv(span->group.rows, kTileLanes) - first);
  for (int64_t i = 0; i < span->tiles; ++i) span->tile[i] = tileAt(span->group, first + i);
}

// Temporary memory of a span.
struct Work {
  float *packed, *queries, *scores, *block;

  Work(float* memory, int64_t headDim) {
    const int64_t panel = paddedDim(headDim) * kTileLanes;
    packed = memory;
    queries = packed + panel;
    scores = queries + kSpanTiles * panel;
    block = scores + kBlockKeys * kTileLanes;
  }
  static int64_t floats(int64_t headDim) {
    const int64_t padded = paddedDim(headDim);
    return ((1 + kSpanTiles) * padded + kBlockKeys) * kTileLanes + packedBlockFloats(padded);
  }
};

// Keys and values of all sequences as they are stored; strides in bytes.
struct Source {
  StorageType type;
  const uint8_t *k, *v;
  int64_t ldk, ldv, kBatchStride, vBatchStride, headBytes;

  // Keys [begin, begin + count) of a group.
  StoredBlock block(const Group& g, int64_t begin, int64_t count) const {
    const int64_t head = g.kvHead * headBytes;
    return {type, begin, count, k + g.sequence * kBatchStride + head + begin * ldk,
            v + g.sequence * vBatchStride + head + begin * ldv, ldk, ldv, headBytes};
  }
};

// The block as floats: where it lies, or in `memory`.
KeyBlock floatsOf(int64_t headDim, const StoredBlock& stored, bool pack, float* memory) {
  constexpr int64_t kBytes = sizeof(float);
  const uintptr_t places = (uintptr_t)stored.k | (uintptr_t)stored.v | (uintptr_t)stored.ldk | (uintptr_t)stored.ldv;
  if (stored.type != StorageType::float32 || places % kBytes != 0) return widenBlock(headDim, stored, memory);
  KeyBlock block{stored.first, stored.count, (const float*)stored.k, (const float*)stored.v, stored.ldk / kBytes,
                 stored.ldv / kBytes};
  if (pack) packBlock(headDim, memory, &block);
  return block;
}

// All tiles attend to one block of the keys after the other.
void attendBlocks(const AttentionShape& s, const Span& span, const StoredBlock& keys, float* states,
                  const Work& work) {
  const int64_t panel = paddedDim(s.headDim) * kTileLanes, stateSize = stateFloats(s.headDim);
  for (int64_t j = 0; j < keys.count; j += kBlockKeys) {
    const KeyBlock block =
        floatsOf(s.headDim, keys.from(j, minOf(kBlockKeys, keys.count - j)), span.tiles > 1, work.block);
    for (int64_t i = 0; i < span.tiles; ++i) {
      const int64_t seen = minOf(block.count, span.visible(i) - block.first);
      if (seen <= 0) continue;
      (span.tile[i].vectors == 1 ? attend<1> : attend<2>)(s.headDim, span.tile[i], block, seen,
                                                          work.queries + i * panel, work.scores,
                                                          stateIn(states + i * stateSize), j == 0);
    }
  }
}

// One segment of a span's keys; the states of its tiles one after the other in `states`.
void attendSegment(const AttentionShape& s, const Plan& plan, const Span& span, int64_t segment, const float* q,
                   const Source& source, float* states, const Work& work) {
  const Group& g = span.group;
  const int64_t padded = paddedDim(s.headDim), panel = padded * kTileLanes, stateSize = stateFloats(s.headDim);
  const int64_t begin = segment * plan.segmentKeys, end = minOf(begin + plan.segmentKeys, span.visible(span.tiles - 1));
  const StoredBlock keys = source.block(g, begin, maxOf(0, end - begin));
  const bool fewRows = s.queryLen == 1 && g.rows <= kFewRows && s.headDim == padded && hasFewRows(source.type);
  for (int64_t i = 0; i < span.tiles; ++i) {
    const Tile& t = span.tile[i];
    packRows(g, t.begin, t.count, t.lanes(), q + g.q, s.ldq, s.headDim, s.scale, work.packed);
    if (!fewRows) transpose(work.packed, padded, t.lanes(), padded, work.queries + i * panel, kTileLanes);
    reset(t, stateIn(states + i * stateSize));
  }
  if (fewRows) {
    attendFewRows(g.rows, s.headDim, keys, work.packed, work.queries, stateIn(states));
  } else {
    attendBlocks(s, span, keys, states, work);
  }
}

// Merges the state `from` into `into`.
void merge(const Tile& t, int64_t headDim, const TileState& from, const TileState& into) {
  for (int64_t lane = 0; lane < t.lanes(); lane += kLanes) {
    const Vf a = load(into.max + lane), b = load(from.max + lane), max = vmax(a, b);
    const Vf shift = select(max == set1(-kInfinity), Vf{}, max);
    const Vf scaleA = vexp(a - shift), scaleB = vexp(b - shift);
    const Vf sumA = load(into.sum + lane), sumB = load(from.sum + lane);
    // A segment without keys has sum 0 and no values.
    const Vi hasA = sumA != Vf{}, hasB = sumB != Vf{};
    store(into.max + lane, max);
    store(into.sum + lane, fma(sumA, scaleA, sumB * scaleB));
    for (int64_t d = 0; d < headDim; ++d) {
      float* const at = into.values + d * kTileLanes + lane;
      const Vf other = load(from.values + d * kTileLanes + lane);
      store(at, select(hasA, load(at) * scaleA, Vf{}) + select(hasB, other * scaleB, Vf{}));
    }
  }
}

void forwardSpans(const AttentionShape& s, const Plan& plan, double nsPerSpan, const float* q, const Source& source,
                  float* out, float* lse) {
  const int64_t workSize = Work::floats(s.headDim), stateSize = stateFloats(s.headDim);
  ScratchParts parts(plan.spans(), workSize + plan.tilesPerSpan * stateFloats(s.headDim));
  forChunks(plan.spans(), nsPerSpan, 1, [&](int64_t begin, int64_t end) {
    float* const memory = parts.take();
    const Work work(memory, s.headDim);
    float* const states = memory + workSize;
    Span span;
    for (int64_t i = begin; i < end; ++i) {
      spanAt(s, plan, i, &span);
      attendSegment(s, plan, span, 0, q, source, states, work);
      for (int64_t j = 0; j < span.tiles; ++j) {
        finish(s, span.group, span.tile[j], stateIn(states + j * stateSize), work.packed, out, lse);
      }
    }
    parts.giveBack(memory);
  });
}

// A segment of a span. The heads of a sequence take the same segment one after the other: their keys lie side by side, so they
// share pages and the ends of cache lines.
struct Item {
  int64_t span, segment;
};

Item itemAt(const AttentionShape& s, const Plan& plan, int64_t index) {
  const int64_t spans = s.nKvHeads * plan.spansPerGroup, each = spans * plan.segments;
  return {index / each * spans + index % spans, index % each / spans};
}

void forwardSegments(const AttentionShape& s, const Plan& plan, double nsPerSpan, const float* q,
                     const Source& source, float* out, float* lse) {
  const int64_t items = plan.spans() * plan.segments, stateSize = stateFloats(s.headDim);
  const int64_t spanSize = plan.tilesPerSpan * stateFloats(s.headDim);
  ScratchParts parts(items, Work::floats(s.headDim));
  const Scratch states(items * spanSize);
  forChunks(items, nsPerSpan / (double)plan.segments, 1, [&](int64_t begin, int64_t end) {
    float* const memory = parts.take();
    Span span;
    for (int64_t i = begin; i < end; ++i) {
      const Item item = itemAt(s, plan, i);
      spanAt(s, plan, item.span, &span);
      float* const own = states.data() + (item.span * plan.segments + item.segment) * spanSize;
      attendSegment(s, plan, span, item.segment, q, source, own, Work(memory, s.headDim));
    }
    parts.giveBack(memory);
  });
  float* const packed = parts.take();
  Span span;
  for (int64_t i = 0; i < plan.spans(); ++i) {
    spanAt(s, plan, i, &span);
    for (int64_t j = 0; j < span.tiles; ++j) {
      float* const first = states.data() + i * plan.segments * spanSize + j * stateSize;
      for (int64_t segment = 1; segment < plan.segments; ++segment) {
        merge(span.tile[j], s.headDim, stateIn(first + segment * spanSize), stateIn(first));
      }
      finish(s, span.group, span.tile[j], stateIn(first), packed, out, lse);
    }
  }
  parts.giveBack(packed);
}

void forward(const AttentionShape& s, const float* q, const Source& source, float* out, float* lse) {
  if (s.batch * s.nHeads * s.queryLen == 0 || s.headDim == 0) return;
  const Plan plan = planOf(s);
  const double nsPerPair = cost::kAttentionForwardPair + cost::kAttentionForward * (double)s.headDim;
  const double nsPerSpan = cost::kAttentionSpan + plan.pairs * nsPerPair / (double)plan.spans();
  (plan.segments == 1 ? forwardSpans : forwardSegments)(s, plan, nsPerSpan, q, source, out, lse);
}

}  // namespace

void attentionForward(const AttentionShape& s, const float* q, const float* k, const float* v, float* out,
                      float* lse) {
  Source source;
  source.type = StorageType::float32;
  source.k = (const uint8_t*)k;
  source.v = (const uint8_t*)v;
  constexpr int64_t kBytes = sizeof(float);
  source.ldk = s.ldk * kBytes;
  source.ldv = s.ldv * kBytes;
  source.kBatchStride = s.kBatchStride * kBytes;
  source.vBatchStride = s.vBatchStride * kBytes;
  source.headBytes = s.headDim * kBytes;
  forward(s, q, source, out, lse);
}

void attentionForwardStored(const AttentionShape& s, StorageType type, int64_t headBytes, const float* q,
                            const uint8_t* k, const uint8_t* v, float* out, float* lse) {
  forward(s, q, {type, k, v, s.ldk, s.ldv, s.kBatchStride, s.vBatchStride, headBytes}, out, lse);
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
