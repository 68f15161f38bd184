#include "dispatch.h"

#include <cstring>
#include <mutex>
#include <utility>

#include "arith.h"

namespace sgemoe {
namespace {

struct Route {
  const BlasLibrary* blas;
  const KernelTable* table;
  SgemmChoice choice;
  bool avx512;        // what the table is for
  bool smallKernels;  // whether the library has kernels of its own for small matrices
};

// An SgemmFn carries no context, so each combination in use gets a function of its own. Slots are filled once, under
// a lock, before their function is handed out.
constexpr int kMaxRoutes = 16;
Route routes[kMaxRoutes];
int routesInUse = 0;

bool fitsInt32(int64_t x) { return x <= INT32_MAX; }

// ---------------------------------------------------------------- by measured crossover
// Sizes that go to the library, because it wins there or because nobody measured. Measured by bench/crossover.js, with more
// sizes around the borders, on 2026-11-23: one thread of Emerald Rapids, operands in the caches, OpenBLAS 0.3.21; AVX-512
// against its SkylakeX kernels, AVX2 against its Haswell kernels. Ratios are built-in over library. At all other sizes
// the built-in kernel is level or ahead: up to 2.7 with AVX2, with AVX-512 up to 5 at 4 to 16 rows.

bool isSkylakeX(const BlasLibrary* blas) {
  if (blas == nullptr || blas->name != "OpenBLAS") return false;
  for (const char* core : {"SkylakeX", "Cooperlake", "SapphireRapids"}) {
    if (blas->core == core) return true;
  }
  return false;
}

// Up to a million multiply-adds these cores of OpenBLAS multiply without packing, A B^T only into up to 1024 elements.
bool smallKernelsWin(bool transA, bool transB, int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kMost = 1000000;
  if (m > kMost || n > kMost || k > kMost || m * n * k > kMost) return false;
  if (!transA && transB) {
    // 2 to 4 rows 0.7 to 0.95, 8 columns and fewer 0.5 to 0.95, up to 48 at a long k 0.4 to 1.0.
    return m > 1 && m * n <= 1024 && (m <= 4 || n <= 8 || (n <= 48 && k >= 256));
  }
  if (transA) return m > 8;  // 0.7 to 0.99; fewer rows 0.95 to 1.4
  // 0.4 to 1.05, at 64 to 128 columns 0.88 to 1.02, at 4 steps 0.94 to 1.0.
  return m <= 4 || n <= 8 || k <= 4 || (m >= 12 && n >= 64 && n <= 128);
}

bool libraryWins(const Route& route, bool transA, bool transB, int64_t m, int64_t n, int64_t k) {
  if (transA && transB) return true;  // not measured: no model has them
  const bool weightsAsStored = !transA && transB;
  if (n == 1 || (m == 1 && !weightsAsStored)) return true;  // sgemv: 0.4 to 1.05; a row by weights 1.0 to 1.4
  if (m >= 96 && n >= 96 && k >= 96) return !(weightsAsStored && m <= 128);  // those that gemm.cc doesn't pack
  if (transA && m >= 2048 && k >= 64) return true;  // far apart in A: AVX2 0.7 to 1.08, AVX-512 0.83 to 1.06
  constexpr int64_t kFarBeyondL2 = 4 << 20;
  if (!route.avx512 && !transA && !transB && n * k >= kFarBeyondL2) return true;  // 0.7 to 0.86
  return route.smallKernels && smallKernelsWin(transA, transB, m, n, k);
}

// y = alpha * op(A) x + beta * y, for matmuls with one row or one column: OpenBLAS's sgemm is 3 to 12 times
// slower there than its sgemv.
struct MatrixVector {
  bool trans;
  int64_t rows, cols;  // of A as stored
  const float* a;
  int64_t lda;
  const float* x;
  int64_t incX;
  float* y;
  int64_t incY;
};

void matrixVector(const BlasLibrary& blas, const MatrixVector& p, float alpha, float beta) {
  // Libraries disagree on 0 * NaN in sgemv: with beta = 0 there must be nothing to disagree on.
  if (beta == 0) scaleMatrix(p.trans ? p.cols : p.rows, 1, 0, p.y, p.incY);
  blas.sgemv(kCblasRowMajor, p.trans ? kCblasTrans : kCblasNoTrans, static_cast<int>(p.rows),
             static_cast<int>(p.cols), alpha, p.a, static_cast<int>(p.lda), p.x, static_cast<int>(p.incX), beta, p.y,
             static_cast<int>(p.incY));
}

// Limits the library to one thread when it is first used on this thread.
void prepareThread(int slot, const BlasLibrary& blas) {
  thread_local uint32_t prepared = 0;
  if (prepared & (1u << slot)) return;
  prepared |= 1u << slot;
  if (blas.setThreads != nullptr) blas.setThreads(1);
}
static_assert(kMaxRoutes <= 32, "one bit of `prepared` each");

template <int Slot>
void routedSgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                 const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0 || alpha == 0) return scaleMatrix(m, n, beta, c, ldc);
  const Route& route = routes[Slot];
  const bool expressible = fitsInt32(m) && fitsInt32(n) && fitsInt32(k) && fitsInt32(lda) && fitsInt32(ldb) &&
                           fitsInt32(ldc);
  if (route.blas == nullptr || !expressible ||
      (route.choice == SgemmChoice::fastestOfTheTwo && !libraryWins(route, transA, transB, m, n, k))) {
    return route.table->sgemm(transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
  const BlasLibrary& blas = *route.blas;
  prepareThread(Slot, blas);
  if (blas.sgemv != nullptr && m == 1) {
    return matrixVector(blas, {!transB, transB ? n : k, transB ? k : n, b, ldb, a, transA ? lda : 1, c, 1}, alpha,
                        beta);
  }
  if (blas.sgemv != nullptr && n == 1) {
    return matrixVector(blas, {transA, transA ? k : m, transA ? m : k, a, lda, b, transB ? 1 : ldb, c, ldc}, alpha,
                        beta);
  }
  blas.sgemm(kCblasRowMajor, transA ? kCblasTrans : kCblasNoTrans, transB ? kCblasTrans : kCblasNoTrans,
             static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), alpha, a, static_cast<int>(lda), b,
             static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

template <int... Slots>
SgemmFn routedSgemmOfSlot(int slot, std::integer_sequence<int, Slots...>) {
  static constexpr SgemmFn kFunctions[] = {routedSgemm<Slots>...};
  return kFunctions[slot];
}

}  // namespace

SgemmFn serialSgemm(const BlasLibrary* blas, const KernelTable* table, SgemmChoice choice) {
  static auto* const mutex = new std::mutex;
  std::lock_guard<std::mutex> lock(*mutex);
  int slot = 0;
  for (; slot < routesInUse; slot++) {
    const Route& known = routes[slot];
    if (known.blas == blas && known.table == table && known.choice == choice) break;
  }
  if (slot == kMaxRoutes) return nullptr;
  if (slot == routesInUse) {
    routes[slot] = {blas, table, choice, std::strncmp(table->instructionSet, "avx512", 6) == 0, isSkylakeX(blas)};
    routesInUse++;
  }
  return routedSgemmOfSlot(slot, std::make_integer_sequence<int, kMaxRoutes>());
}

}  // namespace sgemoe
