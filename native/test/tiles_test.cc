// Products on tiles (tile_product.h): the model of the instructions against Intel's rules, the packing and the fallbacks with it,
// and the processor's unit, if there is one, against the model.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "../gemm.h"
#include "../parallel.h"
#include "../tile_layout.h"
#include "../tiles.h"
#include "check.h"

namespace sgemoe {
namespace SGEMOE_ISA {
extern const KernelTable kTable;
}

namespace test {
namespace {

using Array = std::vector<float>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

const KernelTable& kernels() { return SGEMOE_ISA::kTable; }
const TileWays& modelWays() { return *tileWays(&kernels(), &modelUnit()); }

struct Matmul {
  bool transA, transB;
  int64_t m, n, k;
  float alpha, beta;
};

// C of split products on a unit, or of float32 multiply-adds where `ways` is null.
Array multiply(const TileWays* ways, const Matmul& s, const Array& a, const Array& b, Array c) {
  const Gemm gemm{kernels().sgemm, &kernels(), ways != nullptr ? &ways->split : nullptr};
  sgemm(gemm, s.transA, s.transB, s.m, s.n, s.k, s.alpha, a.data(), s.transA ? s.m : s.k, b.data(), s.transB ? s.k : s.n,
        s.beta, c.data(), s.n);
  return c;
}

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  double next() {  // [0, 1)
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 11) * 0x1p-53;
  }
  float normal() {
    const double radius = std::sqrt(-2 * std::log(1 - next()));
    return static_cast<float>(radius * std::cos(6.283185307179586 * next()));
  }

 private:
  uint64_t state_;
};

Array normals(int64_t count, uint64_t seed, double size = 1) {
  Dice dice(seed);
  Array x(static_cast<size_t>(count));
  for (float& value : x) value = static_cast<float>(dice.normal() * size);
  return x;
}

// Magnitudes spread evenly over powers of two.
Array spread(int64_t count, uint64_t seed, double fromPower, double toPower) {
  Dice dice(seed);
  Array x(static_cast<size_t>(count));
  for (float& value : x) {
    const double size = std::exp2(fromPower + (toPower - fromPower) * dice.next());
    value = static_cast<float>(dice.next() < 0.5 ? -size : size);
  }
  return x;
}

// In float64: the product, and the sum of the magnitudes of its terms.
void exactly(const Matmul& s, const Array& a, const Array& b, const Array& c, std::vector<double>* want,
             std::vector<double>* magnitudes) {
  want->clear();
  magnitudes->clear();
  for (int64_t i = 0; i < s.m; i++) {
    for (int64_t j = 0; j < s.n; j++) {
      double sum = 0, magnitude = 0;
      for (int64_t p = 0; p < s.k; p++) {
        const double term = static_cast<double>(a[static_cast<size_t>(s.transA ? p * s.m + i : i * s.k + p)]) *
                            static_cast<double>(b[static_cast<size_t>(s.transB ? j * s.k + p : p * s.n + j)]);
        sum += term;
        magnitude += std::fabs(term);
      }
      const double old = s.beta == 0 ? 0 : static_cast<double>(s.beta) * static_cast<double>(c[static_cast<size_t>(i * s.n + j)]);
      want->push_back(static_cast<double>(s.alpha) * sum + old);
      magnitudes->push_back(std::fabs(static_cast<double>(s.alpha)) * magnitude + std::fabs(old));
    }
  }
}

// The sum of squared errors, each over the magnitude of its terms, so that large elements don't hide the others.
double squaredErrors(const Array& got, const std::vector<double>& want, const std::vector<double>& magnitudes) {
  double sum = 0;
  for (size_t i = 0; i < got.size(); i++) {
    if (magnitudes[i] > 0) sum += std::pow((static_cast<double>(got[i]) - want[i]) / magnitudes[i], 2);
  }
  return sum;
}

// Each element within the bound of the conformance suite (test/backend/conformance/harness.ts).
std::string checkBounds(const char* what, const Array& got, const std::vector<double>& want,
                        const std::vector<double>& magnitudes, int64_t k) {
  for (size_t i = 0; i < got.size(); i++) {
    const double bound = 8 * 0x1p-24 * std::sqrt(static_cast<double>(k)) * magnitudes[i] + 0x1p-126;
    if (std::fabs(static_cast<double>(got[i]) - want[i]) <= bound) continue;
    char text[200];
    std::snprintf(text, sizeof text, "%s: element %zu is %.9g, want %.9g, off by %.3g times the bound", what, i,
                  static_cast<double>(got[i]), want[i], std::fabs(static_cast<double>(got[i]) - want[i]) / bound);
    return text;
  }
  return "";
}

// ---------------------------------------------------------------- the instructions

// One panel by one panel through `unit`: sums [rows, cols] of bfloat16 numbers, no fallback.
Array multiplyPanels(const TileUnit& unit, int64_t rows, int64_t cols, int64_t k, const Array& a, const Array& b) {
  const TileKernels& tiles = *kernels().tiles;
  const auto panel = [k](int parts) {
    return static_cast<size_t>(kTileHeader + (k + kTileSteps - 1) / kTileSteps * kTileSteps * tileStepFloats(parts) + 16);
  };
  const auto aligned = [](Array& x) {
    return x.data() + (64 - reinterpret_cast<uintptr_t>(x.data()) % 64) % 64 / sizeof(float) + kTileHeader;
  };
  Array packedA(panel(kSplitParts)), packedB(panel(1)), c(static_cast<size_t>(rows * cols));
  tiles.packRows(true, k, rows, a.data(), k, aligned(packedA), 0, 0);
  tiles.packBfloat16Columns(true, k, cols, b.data(), k, aligned(packedB), 0, 0);
  TileRange open = {0x3f800000 - 1, 0x3f800000};  // as if all were 1, so that the unit's results stay
  std::memcpy(aligned(packedA) - kTileHeader, &open, sizeof open);
  std::memcpy(aligned(packedB) - kTileHeader, &open, sizeof open);
  PackedProduct product = {};
  product.rows = rows, product.cols = cols, product.depth = k;
  product.alpha = 1, product.a = aligned(packedA), product.b = aligned(packedB);
  product.c = c.data(), product.ldc = cols, product.tiles = &tiles;
  unit.multiplyBfloat16(product);
  return c;
}

// Row 0 by column 0 of two panels.
float dot(const TileUnit& unit, const Array& a, const Array& b) {
  return multiplyPanels(unit, 1, 1, static_cast<int64_t>(a.size()), a, b)[0];
}

std::string checkInstructions(const TileUnit& unit) {
  struct Case {
    const char* what;
    Array a, b;
    float want;
  };
  const float tiny = 0x1p-130f;
  const Case cases[] = {
      {"integers", {1, 2, 3, 4, 5}, {1, 10, 100, 200, 50}, 1371},
      {"a denormal operand is zero", {tiny}, {0x1p100f}, 0},
      {"a denormal weight is zero", {0x1p100f}, {tiny}, 0},
      {"a denormal result is zero", {0x1p-70f}, {0x1p-60f}, 0},
      {"the smallest normal result stays", {0x1p-66f}, {0x1p-60f}, 0x1p-126f},
      // 1 + 2^-24 is a tie, to the even 1; pairs have chains of their own, so the next term of the chain is two further.
      {"ties go to even", {1, 0, 0x1p-24f}, {1, 1, 1}, 1},
      {"ties go to even, upwards", {1, 0, 0x1p-23f, 0, 0x1p-24f}, {1, 1, 1, 1, 1}, 1 + 0x1p-22f},
      {"the pair's chains add at the end", {1, 0x1p-24f, 0, 0x1p-24f}, {1, 1, 1, 1}, 1 + 0x1p-23f},
      {"a multiplication and addition round once", {1 + 0x1p-7f, 0, -1}, {1 + 0x1p-7f, 0, 1}, 0x1p-6f + 0x1p-14f},
      {"nothing cancels to less", {0x1p-100f, 0, -0x1p-100f}, {0x1p-20f, 1, 0x1p-20f}, 0},
  };
  for (const Case& c : cases) {
    const float got = dot(unit, c.a, c.b);
    if (got == c.want) continue;
    char text[200];
    std::snprintf(text, sizeof text, "%s: got %a, want %a", c.what, static_cast<double>(got), static_cast<double>(c.want));
    return text;
  }
  return "";
}

// ---------------------------------------------------------------- products

std::string multipliesAnySizes(const TileWays& ways) {
  const int64_t sides[] = {32, 33, 47, 48, 64, 65, 90};
  std::vector<double> want, magnitudes;
  int trial = 0;
  for (const int64_t m : sides) {
    for (const int64_t n : sides) {
      const int64_t k = sides[(m + 3 * n) % 7] + (trial % 5 == 0 ? 250 : 0);
      const Matmul s = {(trial & 1) != 0, (trial & 2) != 0, m, n, k, trial % 3 == 0 ? 1.0f : -0.5f, trial % 4 == 0 ? 0.0f : 2.0f};
      const Array a = normals(m * k, 2 * trial + 1), b = normals(k * n, 2 * trial + 2);
      const Array c = s.beta == 0 ? Array(static_cast<size_t>(m * n), NAN) : normals(m * n, 3);
      exactly(s, a, b, c, &want, &magnitudes);
      const std::string problem = checkBounds("product", multiply(&ways, s, a, b, c), want, magnitudes, k);
      if (!problem.empty()) return problem;
      trial++;
    }
  }
  return "";
}

std::string isAsExactAsFloat32(const TileWays& ways) {
  struct Draw {
    const char* what;
    double fromA, toA, fromB, toB;  // powers of two; equal ones: normal numbers of that size
    bool cancels;
  };
  const Draw draws[] = {{"normal numbers", 0, 0, 0, 0, false},        {"1e-30 by 1e30", -100, -100, 100, 100, false},
                        {"1e30 by 1e-30", 100, 100, -100, -100, false}, {"1e-15 by 1e-15", -50, -50, -50, -50, false},
                        {"spread magnitudes", -20, 20, -20, 20, false}, {"spread over 1e-30 .. 1e30", -50, 50, -50, 50, false},
                        {"sums that cancel", 0, 0, 0, 0, true}};
  const Matmul s = {false, true, 40, 48, 256, 1, 0};
  std::vector<double> want, magnitudes;
  for (const Draw& draw : draws) {
    double ours = 0, theirs = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
      const auto numbers = [&](int64_t count, uint64_t at, double from, double to) {
        return from == to ? normals(count, at, std::exp2(from)) : spread(count, at, from, to);
      };
      Array a = numbers(s.m * s.k, 100 + seed, draw.fromA, draw.toA);
      Array b = numbers(s.n * s.k, 200 + seed, draw.fromB, draw.toB);
      if (draw.cancels) {  // the second half of each sum takes the first away, but for a hundredth of a millionth
        for (int64_t i = 0; i < s.m * s.k; i++) {
          if (i % s.k >= s.k / 2) a[static_cast<size_t>(i)] = -a[static_cast<size_t>(i - s.k / 2)] * (1 + 0x1p-20f);
        }
        for (int64_t i = 0; i < s.n * s.k; i++) {
          if (i % s.k >= s.k / 2) b[static_cast<size_t>(i)] = b[static_cast<size_t>(i - s.k / 2)];
        }
      }
      const Array c(static_cast<size_t>(s.m * s.n));
      exactly(s, a, b, c, &want, &magnitudes);
      const Array got = multiply(&ways, s, a, b, c), plain = multiply(nullptr, s, a, b, c);
      const std::string problem = checkBounds(draw.what, got, want, magnitudes, s.k);
      if (!problem.empty()) return problem;
      ours += squaredErrors(got, want, magnitudes);
      theirs += squaredErrors(plain, want, magnitudes);
    }
    std::printf("# %s: rms error %.3g of the multiply-adds'\n", draw.what, std::sqrt(ours / theirs));
    if (ours > 1.05 * 1.05 * theirs) return std::string(draw.what) + ": a larger error than the multiply-adds'";
  }
  return "";
}

// What the unit can't compute, at one place among numbers that it can.
std::string fallsBack(const TileWays& ways) {
  const Matmul s = {false, true, 70, 70, 300, 1, 0};
  struct Odd {
    const char* what;
    float value, partner;  // in A, and in B where it meets it
  };
  const Odd odds[] = {{"an infinity", kInfinity, 1},      {"NaN", NAN, 1},
                      {"an overflow", 0x1p100f, 0x1p100f}, {"nearly the largest number", 3.4e38f, 0x1p-20f},
                      {"infinity by zero", kInfinity, 0}};
  for (const Odd& odd : odds) {
    Array a = normals(s.m * s.k, 1), b = normals(s.n * s.k, 2);
    a[static_cast<size_t>(37 * s.k + 5)] = odd.value;
    for (int64_t j = 0; j < s.n; j++) b[static_cast<size_t>(j * s.k + 5)] = odd.partner;
    const Array c(static_cast<size_t>(s.m * s.n));
    const Array got = multiply(&ways, s, a, b, c), plain = multiply(nullptr, s, a, b, c);
    for (int64_t i = 0; i < s.m * s.n; i++) {
      const float x = got[static_cast<size_t>(i)], y = plain[static_cast<size_t>(i)];
      if (std::isfinite(x) == std::isfinite(y) && std::isnan(x) == std::isnan(y)) continue;
      return std::string(odd.what) + " gives " + std::to_string(x) + ", not " + std::to_string(y);
    }
  }
  return "";
}

// Small numbers, which the unit takes for zero: each within the bound of float32, whatever lies beside them.
std::string keepsSmallNumbers(const TileWays& ways) {
  std::vector<double> want, magnitudes;
  const Matmul s = {false, true, 64, 64, 96, 1, 0};
  struct Sizes {
    const char* what;
    double a, b;
  };
  const Sizes all[] = {{"denormal by large", -135, 90},  {"denormal results", -70, -70},   {"lost third parts", -115, 100},
                       {"small sums", -62, -60},          {"zeros and small numbers", -80, -30}};
  for (const Sizes& sizes : all) {
    Array a = normals(s.m * s.k, 5, std::exp2(sizes.a)), b = normals(s.n * s.k, 6, std::exp2(sizes.b));
    // A row of ordinary numbers in front, whose partners are zero in half of the columns.
    for (int64_t p = 0; p < s.k; p++) a[static_cast<size_t>(p)] = p < 8 ? 1.5f : a[static_cast<size_t>(p)];
    for (int64_t j = 0; j < s.n; j++) {
      for (int64_t p = 0; p < 8; p++) b[static_cast<size_t>(j * s.k + p)] *= j % 2 == 0 ? 0.0f : 1.0f;
    }
    const Array c(static_cast<size_t>(s.m * s.n));
    exactly(s, a, b, c, &want, &magnitudes);
    const std::string problem = checkBounds(sizes.what, multiply(&ways, s, a, b, c), want, magnitudes, s.k);
    if (!problem.empty()) return problem;
  }
  return "";
}

bool sameBits(const Array& a, const Array& b) { return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

std::string sameOnAllThreads() {
  const Matmul s = {false, true, 200, 300, 130, 1, 1};
  const Array a = normals(s.m * s.k, 1), b = normals(s.n * s.k, 2), c = normals(s.m * s.n, 3);
  setThreadCount(1);
  const Array expected = multiply(&modelWays(), s, a, b, c);
  for (const int threads : {2, 33}) {
    setThreadCount(threads);
    int different[2] = {};
    std::vector<std::thread> callers;
    for (int& count : different) {
      callers.emplace_back([&] { count += !sameBits(multiply(&modelWays(), s, a, b, c), expected); });
    }
    for (std::thread& caller : callers) caller.join();
    if (different[0] + different[1] > 0) return "with " + std::to_string(threads) + " threads other bits than with one";
  }
  setThreadCount(1);
  return "";
}

// Operands that bfloat16 holds aren't rounded any further: the products are those of float32, of sides below a tile's too.
std::string multipliesRounded(const TileWays& ways) {
  std::vector<double> want, magnitudes;
  for (const int64_t side : {1, 15, 33, 50}) {
    const Matmul s = {side % 2 == 0, side > 16, side, 64 - side, 3 * side, 1, 0};
    Array a = normals(s.m * s.k, 7), b = normals(s.k * s.n, 8);
    for (Array* const x : {&a, &b}) {
      for (float& value : *x) value = std::round(value * 32) / 32;  // at most 8 bits up to 8
    }
    const Gemm gemm{kernels().sgemm, &kernels(), &ways.rounded};
    Array c(static_cast<size_t>(s.m * s.n));
    exactly(s, a, b, c, &want, &magnitudes);
    sgemm(gemm, s.transA, s.transB, s.m, s.n, s.k, s.alpha, a.data(), s.transA ? s.m : s.k, b.data(), s.transB ? s.k : s.n,
          s.beta, c.data(), s.n);
    const std::string problem = checkBounds("product", c, want, magnitudes, s.k);
    if (!problem.empty()) return problem;
  }
  return "";
}

// Large enough that the shared operand takes several stages and pieces of the depth.
std::string multipliesInPieces(const TileWays& ways) {
  constexpr int64_t kM = 32, kN = 32, kK = 60000;
  const Array a(static_cast<size_t>(kM * kK), 0.25f), b(static_cast<size_t>(kN * kK), 3.0f);
  const Array c = multiply(&ways, {false, true, kM, kN, kK, 1, 0}, a, b, Array(static_cast<size_t>(kM * kN)));
  for (const float x : c) {
    if (x != 0.75f * kK) return "got " + std::to_string(x);
  }
  return "";
}

const TileUnit* processorUnit() {
  const char* refused = nullptr;
  return amxUnit(&refused);
}
const TileWays& modelPairsWays() { return *tileWays(&kernels(), &modelPairsUnit()); }
const TileWays& processorWays() { return *tileWays(&kernels(), processorUnit()); }

// The same bits as the model's; a processor that adds in another order than Intel's manual says would be within the bound.
std::string matchesModel() {
  int64_t different = 0;
  std::vector<double> want, magnitudes;
  for (uint64_t seed = 0; seed < 8; seed++) {
    const Matmul s = {false, true, 90, 75, 200 + 31 * static_cast<int64_t>(seed), 1, 0};
    const Array a = normals(s.m * s.k, seed), b = normals(s.n * s.k, 50 + seed), c(static_cast<size_t>(s.m * s.n));
    const Array got = multiply(&processorWays(), s, a, b, c), model = multiply(&modelWays(), s, a, b, c);
    for (size_t i = 0; i < got.size(); i++) different += std::memcmp(&got[i], &model[i], sizeof(float)) != 0;
    exactly(s, a, b, c, &want, &magnitudes);
    const std::string problem = checkBounds("product", got, want, magnitudes, s.k);
    if (!problem.empty()) return problem;
  }
  std::printf("# %lld elements with other bits than the model's\n", static_cast<long long>(different));
  return "";
}

}  // namespace

void tileTests() {
  test("the model of tiles rounds and flushes as the instructions do", [] { return checkInstructions(modelUnit()); });
  test("split products of any sizes and layouts, on the model", [] { return multipliesAnySizes(modelWays()); });
  test("split products are as exact as float32's, on the model", [] { return isAsExactAsFloat32(modelWays()); });
  test("split products fall back for infinities, NaN and range", [] { return fallsBack(modelWays()); });
  test("split products keep numbers that tiles flush", [] { return keepsSmallNumbers(modelWays()); });
  test("split products of a long depth in pieces", [] { return multipliesInPieces(modelWays()); });
  test("products of bfloat16 by bfloat16, on the model", [] { return multipliesRounded(modelWays()); });
  test("products of bfloat16 by vectors of pairs, on the model", [] { return multipliesRounded(modelPairsWays()); });
  test("split products have the same bits on any number of threads", sameOnAllThreads);
  test("the model was given nothing that the processor refuses",
       [] { return modelFaults() == 0 ? std::string() : std::to_string(modelFaults()) + " instructions"; });
  if (const TileUnit* const pairs = pairsUnit(&kernels())) {
    std::printf("# Products of bfloat16 by %s.\n", pairs->name);
    static const TileWays& ways = *tileWays(&kernels(), pairs);
    test("products of bfloat16 by vectors of pairs, on the processor", [] { return multipliesRounded(ways); });
  } else {
    std::printf("# This processor has no products of bfloat16 in vectors that gain.\n");
  }
  if (processorUnit() == nullptr) {
    std::printf("# This machine has no AMX, so only the model of it was tested.\n");
    return;
  }
  test("the processor's tiles round and flush as the model does", [] { return checkInstructions(*processorUnit()); });
  test("the processor's tiles give the model's products", matchesModel);
  test("split products of any sizes and layouts, on the processor", [] { return multipliesAnySizes(processorWays()); });
  test("split products are as exact as float32's, on the processor", [] { return isAsExactAsFloat32(processorWays()); });
  test("products of bfloat16 by bfloat16, on the processor", [] { return multipliesRounded(processorWays()); });
  test("split products fall back, on the processor", [] { return fallsBack(processorWays()); });
  test("split products keep small numbers, on the processor", [] { return keepsSmallNumbers(processorWays()); });
}

}  // namespace test
}  // namespace sgemoe
