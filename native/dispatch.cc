#include "dispatch.h"

#include <cstring>
#include <mutex>
#include <utility>

namespace sgemoe {
namespace {

struct Route {
  const BlasLibrary* blas;
  SgemmFn builtin;
  SgemmChoice choice;
};

// An SgemmFn carries no context, so each combination in use gets a function of its own. Slots are filled once, under
// a lock, before their function is handed out.
constexpr int kMaxRoutes = 16;
Route routes[kMaxRoutes];
int routesInUse = 0;

bool fitsInt32(int64_t x) { return x <= INT32_MAX; }

// C = beta * C.
void scaleMatrix(int64_t m, int64_t n, float beta, float* c, int64_t ldc) {
  for (int64_t i = 0; i < m; i++) {
    float* row = c + i * ldc;
    if (beta == 0) {
      std::memset(row, 0, static_cast<size_t>(n) * sizeof(float));
    } else {
      for (int64_t j = 0; j < n; j++) row[j] *= beta;
    }
  }
}

// Whether the built-in kernel takes a matmul that the library could do as well. C = A B^T of few rows, the forward of
// a layer whose weights are stored [out, in], is where libraries are weak: they pack the weights for every call.
// Measured with one thread against OpenBLAS 0.3.21 on Emerald Rapids, built-in over library, AVX-512 against its
// SkylakeX and AVX2 against its Haswell kernels: 1x256x64 1.4 and 1.6, 8x3072x768 2.3 and 1.8, 16x256x64 2.0 and
// 1.3, 64x256x64 1.4 and 1.1, 128x3072x768 1.0 and 1.4; only 2 to 4 rows at k = 64 stay behind SkylakeX, at 0.75.
bool gemmDispatch(bool transA, bool transB, int64_t m) { return !transA && transB && m <= 128; }

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

// Limits the library to one thread on this thread, the first time it is used here.
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
      (route.choice == SgemmChoice::fastestOfTheTwo && gemmDispatch(transA, transB, m))) {
    return route.builtin(transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
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
    if (known.blas == blas && known.builtin == table->sgemm && known.choice == choice) break;
  }
  if (slot == kMaxRoutes) return nullptr;
  if (slot == routesInUse) {
    routes[slot] = {blas, table->sgemm, choice};
    routesInUse++;
  }
  return routedSgemmOfSlot(slot, std::make_integer_sequence<int, kMaxRoutes>());
}

}  // namespace sgemoe
