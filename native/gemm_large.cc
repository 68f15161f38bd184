#include "gemm_large.h"

#include <algorithm>

#include "arith.h"
#include "costs.h"
#include "parallel.h"
#include "scratch.h"

namespace sgemoe {
namespace {

// The largest stage in which the shared operand is packed, in floats (8 MiB) and in groups.
constexpr int64_t kStageFloats = int64_t{2} << 20;
constexpr int64_t kStagePieces = 64;

// Rows or columns of the kernel's depth that a tile packs of its own operand at a time; a second-level cache of 512 KiB
// holds them. Tiles have fewer rows while there are few tiles to share.
constexpr int64_t kTileRows = 168, kTileCols = 128;
constexpr int64_t kMinTileRows = 56, kManyTiles = 8;

constexpr int64_t kPanelsPerChunk = 8;  // of the shared operand

// More threads than kFewThreads get finer cuts where there are fewer tiles for each than this. The bits stay: an element of C is
// the same sum in any tile. Narrow tiles make one thread slower, and few threads don't need them.
constexpr int64_t kFewThreads = 4, kTilesPerThread = 2;
constexpr double kMinCutFlops = 10e6;  // less is hardly shared

constexpr int64_t kWidened = 256;  // numbers of a stored row that are widened and packed at a time: whole blocks of any type

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// One of `parts` about equal parts of a range, cut at multiples of `unit` from its beginning.
Range partOf(Range range, int64_t part, int64_t parts, int64_t unit) {
  const int64_t units = ceilDiv(range.size(), unit);
  const auto cut = [&](int64_t i) { return range.begin + (units / parts * i + std::min(i, units % parts)) * unit; };
  return {cut(part), std::min(range.end, cut(part + 1))};
}

// A group, or the part of it that comes from a range of the shared operand's rows or columns and of the depth.
struct Piece {
  Operands p;
  Range shared, depth;
  float beta;
  int64_t packedAt;                       // floats
  int64_t firstChunk = 0, firstTile = 0;  // numbers in the two parallel regions
};

// What a kernel multiplies from packed panels, as it lies in the operands.
struct Block {
  const LargeGemm* gemm;
  const Operands* operands;
  int64_t row, col;
  Range depth;
  float beta;
};

// Rows and columns of a block's part of C by the kernels for matrices that aren't packed.
void multiplyPlainly(const void* context, int64_t row, int64_t col, int64_t rows, int64_t cols) {
  const Block& block = *static_cast<const Block*>(context);
  const LargeGemm& s = *block.gemm;
  const Operands& p = *block.operands;
  row += block.row;
  col += block.col;
  const int64_t k = block.depth.begin;
  const float* const a = p.a + (s.transA ? k * s.lda + row : row * s.lda + k);
  float* const c = p.c + row * s.ldc + col;
  if (s.storedB != nullptr) {
    // Of a number: blocks never come here, since a unit multiplies them by rounded panels, which don't fall back.
    const int64_t bytes = layoutOf(s.storedB->type).bytes;
    return s.kernels->stored->multiplyFloats({s.storedB->type, rows, cols, block.depth.size(),
                                              p.storedB + col * s.storedB->rowBytes + k * bytes, s.storedB->rowBytes, s.alpha,
                                              a, s.lda, block.beta, c, s.ldc});
  }
  const float* const b = p.b + (s.transB ? col * s.ldb + k : k * s.ldb + col);
  s.kernels->sgemm(s.transA, s.transB, rows, cols, block.depth.size(), s.alpha, a, s.lda, b, s.ldb, block.beta, c, s.ldc);
}

// Pieces whose shared operand is packed in one region, and multiplied by the other in the next.
class Stage {
 public:
  explicit Stage(const LargeGemm& s) : s_(s), panels_(*s.panels) {}

  int64_t sharedUnit() const { return s_.shareA ? panels_.rows : panels_.cols; }
  int64_t otherUnit() const { return s_.shareA ? panels_.cols : panels_.rows; }
  // Where the depth may be cut: every unit of panels divides the other.
  int64_t depthUnit() const { return s_.storedB != nullptr ? kWidened : panels_.depthUnit; }
  // Of a panel, and of all panels, of the shared operand.
  int64_t sharedFloats(int64_t depth) const { return panelFloats(s_.shareA, depth); }
  int64_t sharedFloats(int64_t count, int64_t depth) const { return ceilDiv(count, sharedUnit()) * sharedFloats(depth); }
  // The longest depth of `count` rows or columns of the shared operand that a stage holds, a multiple of the kernel's.
  int64_t maxDepth(int64_t count) const {
    const int64_t each = kStageFloats / ceilDiv(count, sharedUnit()) - panels_.header;
    return std::max<int64_t>(1, each / stepFloats(s_.shareA) / panels_.depth) * panels_.depth;
  }
  bool holds(int64_t floats) const { return pieces_ < kStagePieces && floats_ + floats <= kStageFloats; }
  void add(const Operands& p, Range shared, Range depth, float beta);
  void run();

 private:
  int64_t tilesOf(const Piece& piece) const;
  int64_t panelsPerChunk() const { return std::max<int64_t>(1, kPanelsPerChunk / split_); }
  void cut(int64_t split);
  int64_t otherOf(const Piece& piece) const { return s_.shareA ? s_.n : piece.p.m; }
  int64_t stepFloats(bool rows) const { return rows ? panels_.rowFloats : panels_.colFloats; }
  int64_t panelFloats(bool rows, int64_t depth) const {
    return panels_.header + roundUp(depth, panels_.depthUnit) * stepFloats(rows);
  }
  int64_t ownFloats() const {
    return ceilDiv(s_.shareA ? kTileCols : kTileRows, otherUnit()) * panelFloats(!s_.shareA, panels_.depth);
  }
  const Piece& pieceOf(int64_t number, int64_t Piece::* first) const;
  void pack(bool rows, const Piece& piece, Range part, Range depth, float* packed, int64_t stride) const;
  void packStored(const uint8_t* matrix, Range cols, Range depth, float* packed, int64_t stride, float* wide) const;
  void packChunk(float* packed, int64_t chunk) const;
  void multiplyTile(const float* packed, float* own, int64_t tile) const;

  const LargeGemm& s_;
  const PanelKernels& panels_;
  int64_t pieces_ = 0, floats_ = 0;
  double flops_ = 0;
  int64_t split_ = 1, chunks_ = 0, tiles_ = 0;  // see cut()
  Piece piece_[kStagePieces];
};

int64_t Stage::tilesOf(const Piece& piece) const {
  const int64_t other = otherOf(piece);
  int64_t tiles = ceilDiv(other, kTileCols);
  if (!s_.shareA) {
    tiles = std::max(ceilDiv(other, kTileRows), std::min(kManyTiles, other / kMinTileRows));
    tiles = tiles > 4 ? roundUp(tiles, 4) : std::max<int64_t>(tiles, 1);
  }
  return std::max(tiles, std::min(tiles * split_, ceilDiv(other, otherUnit())));
}

void Stage::add(const Operands& p, Range shared, Range depth, float beta) {
  const Piece& piece = piece_[pieces_++] = {p, shared, depth, beta, floats_};
  floats_ += sharedFloats(shared.size(), depth.size());
  flops_ += 2.0 * static_cast<double>(shared.size()) * static_cast<double>(depth.size()) *
            static_cast<double>(otherOf(piece));
}

// Cuts all pieces into chunks and tiles, as many times finer as `split` says.
void Stage::cut(int64_t split) {
  split_ = split;
  chunks_ = tiles_ = 0;
  for (Piece* piece = piece_; piece < piece_ + pieces_; piece++) {
    piece->firstChunk = chunks_;
    piece->firstTile = tiles_;
    chunks_ += ceilDiv(piece->shared.size(), sharedUnit() * panelsPerChunk());
    tiles_ += tilesOf(*piece);
  }
}

const Piece& Stage::pieceOf(int64_t number, int64_t Piece::* first) const {
  int64_t i = pieces_ - 1;
  while (piece_[i].*first > number) i--;
  return piece_[i];
}

// Rows of op(A), or columns of op(B).
void Stage::pack(bool rows, const Piece& piece, Range part, Range depth, float* packed, int64_t stride) const {
  const bool alongDepth = rows ? !s_.transA : s_.transB;  // in memory
  const int64_t ld = rows ? s_.lda : s_.ldb;
  const float* from = (rows ? piece.p.a : piece.p.b) +
                      (alongDepth ? part.begin * ld + depth.begin : depth.begin * ld + part.begin);
  const auto packPanels = rows ? panels_.packRows : panels_.packColumns;
  packPanels(alongDepth, depth.size(), part.size(), from, ld, packed + panels_.header, stride, 0);
}

// Columns of op(B), panel by panel, a piece of the depth at a time.
void Stage::packStored(const uint8_t* matrix, Range cols, Range depth, float* packed, int64_t stride,
                       float* wide) const {
  const StoredMatrices& b = *s_.storedB;
  const StorageLayout& layout = layoutOf(b.type);
  for (int64_t j = cols.begin; j < cols.end; j += panels_.cols, packed += stride) {
    const int64_t width = std::min(panels_.cols, cols.end - j);
    for (int64_t k = depth.begin; k < depth.end; k += kWidened) {
      const int64_t count = std::min(kWidened, depth.end - k);
      const uint8_t* const blocks = matrix + j * b.rowBytes + k / layout.elements * layout.bytes;
      for (int64_t i = 0; i < width; i++) {
        s_.kernels->stored->widen(b.type, blocks + i * b.rowBytes, count, wide + i * kWidened);
      }
      const int64_t at = k - depth.begin;
      panels_.packColumns(true, count, width, wide, kWidened, packed + panels_.header + at * panels_.colFloats, stride, at);
    }
  }
}

void Stage::packChunk(float* packed, int64_t chunk) const {
  const Piece& piece = pieceOf(chunk, &Piece::firstChunk);
  const int64_t size = panelsPerChunk() * sharedUnit(), begin = (chunk - piece.firstChunk) * size;
  const Range part{piece.shared.begin + begin, std::min(piece.shared.end, piece.shared.begin + begin + size)};
  const int64_t stride = sharedFloats(piece.depth.size());
  pack(s_.shareA, piece, part, piece.depth, packed + piece.packedAt + begin / sharedUnit() * stride, stride);
}

void Stage::multiplyTile(const float* packed, float* own, int64_t tile) const {
  const Piece& piece = pieceOf(tile, &Piece::firstTile);
  const Range part = partOf({0, otherOf(piece)}, tile - piece.firstTile, tilesOf(piece), otherUnit());
  const Range rows = s_.shareA ? piece.shared : part, cols = s_.shareA ? part : piece.shared;
  const int64_t sharedStride = sharedFloats(piece.depth.size());
  const int64_t blocks = std::max<int64_t>(1, ceilDiv(piece.depth.size(), panels_.depth));
  for (int64_t block = 0; block < blocks; block++) {
    const Range depth = partOf(piece.depth, block, blocks, depthUnit());
    const int64_t ownStride = panelFloats(!s_.shareA, depth.size());
    if (s_.storedB != nullptr) {
      packStored(piece.p.storedB, part, depth, own, ownStride, own + ownFloats());
    } else {
      pack(!s_.shareA, piece, part, depth, own, ownStride);
    }
    const int64_t at = depth.begin - piece.depth.begin;
    const float* const sharedAt = packed + piece.packedAt + panels_.header + at * stepFloats(s_.shareA);
    const float* const ownAt = own + panels_.header;
    const float beta = block == 0 ? piece.beta : 1;
    const Block plain = {&s_, &piece.p, rows.begin, cols.begin, depth, beta};
    panels_.multiply({rows.size(), cols.size(), depth.size(), depth.size() == 0 ? 0 : s_.alpha,
                      s_.shareA ? sharedAt : ownAt, s_.shareA ? sharedStride : ownStride, s_.shareA ? ownAt : sharedAt,
                      s_.shareA ? ownStride : sharedStride, beta, piece.p.c + rows.begin * s_.ldc + cols.begin, s_.ldc,
                      s_.shareA ? at : 0, s_.shareA ? 0 : at, panels_.tiles, multiplyPlainly, &plain});
  }
}

void Stage::run() {
  if (pieces_ == 0) return;
  cut(1);
  const int64_t threads = threadCount(), wanted = kTilesPerThread * threads;
  if (threads > kFewThreads && tiles_ < wanted && flops_ >= kMinCutFlops) cut(ceilDiv(wanted, tiles_));
  ScratchParts parts(tiles_, ownFloats() + (s_.storedB != nullptr ? kWidened * panels_.cols : 0), floats_);
  float* const packed = parts.shared();
  auto packBody = [&](int64_t chunk) { packChunk(packed, chunk); };
  parallelChunks(chunks_, static_cast<double>(floats_) / cost::kLargePackFloats, packBody);
  auto tileBody = [&](int64_t tile) {
    float* const own = parts.take();
    multiplyTile(packed, own, tile);
    parts.giveBack(own);
  };
  parallelChunks(tiles_, flops_ / cost::kLargeGemmFlops, tileBody);
  pieces_ = floats_ = 0;
  flops_ = 0;
}

// A group whose shared operand exceeds a stage: piece by piece, the later ones along the depth adding to C.
void runInPieces(const LargeGemm& s, Stage& stage, const Operands& p, Range shared) {
  const int64_t unit = stage.sharedUnit(), depth = s.panels->depth;
  const int64_t parts =
      ceilDiv(stage.sharedFloats(shared.size(), std::min(depth, p.k)), kStageFloats - stage.sharedFloats(depth));
  for (int64_t i = 0; i < parts; i++) {
    const Range part = partOf(shared, i, parts, unit);
    const int64_t maxDepth = stage.maxDepth(part.size());
    const int64_t depthParts = ceilDiv(p.k, maxDepth);
    for (int64_t d = 0; d < depthParts; d++) {
      stage.add(p, part, partOf({0, p.k}, d, depthParts, stage.depthUnit()), d == 0 ? s.beta : 1);
      stage.run();
    }
  }
}

}  // namespace

void sgemmLarge(const LargeGemm& s) {
  Stage stage(s);
  for (int64_t g = 0; g < s.groups; g++) {
    const Operands p = s.operandsOf(s.context, g);
    if (p.m == 0 || s.n == 0) continue;
    const Range shared{0, s.shareA ? p.m : s.n};
    const int64_t floats = stage.sharedFloats(shared.size(), p.k);
    if (!stage.holds(floats)) stage.run();
    if (floats <= kStageFloats) {
      stage.add(p, shared, {0, p.k}, s.beta);
    } else {
      runInPieces(s, stage, p, shared);
    }
  }
  stage.run();
}

}  // namespace sgemoe
