// Apple's Accelerate, linked. Compiled only with SGEMOE_ACCELERATE.
#define ACCELERATE_NEW_LAPACK
#include <Accelerate/Accelerate.h>

#include <dlfcn.h>

#include "blas.h"
#include "dynamic_library.h"

namespace sgemoe {
namespace {

// Accelerate's own enumerations in its prototypes keep us from passing the functions on as they are.
void acceleratedSgemm(int layout, int transA, int transB, int m, int n, int k, float alpha, const float* a, int lda,
                      const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(static_cast<CBLAS_ORDER>(layout), static_cast<CBLAS_TRANSPOSE>(transA),
              static_cast<CBLAS_TRANSPOSE>(transB), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void acceleratedSgemv(int layout, int trans, int m, int n, float alpha, const float* a, int lda, const float* x,
                      int incX, float beta, float* y, int incY) {
  cblas_sgemv(static_cast<CBLAS_ORDER>(layout), static_cast<CBLAS_TRANSPOSE>(trans), m, n, alpha, a, lda, x, incX,
              beta, y, incY);
}

// macOS 15 added a limit per thread. Looked up by name, because older systems, which this binary still serves,
// don't have it; theirs spread only large matmuls.
void setAccelerateThreads(int64_t threads) {
  using SetThreading = int (*)(unsigned threading);  // 0: as Accelerate likes, 1: the calling thread only
  static const auto setThreading = reinterpret_cast<SetThreading>(dlsym(RTLD_DEFAULT, "BLASSetThreading"));
  if (setThreading != nullptr) setThreading(threads == 1 ? 1 : 0);
}

BlasLibrary describeAccelerate() {
  BlasLibrary blas;
  blas.name = "Accelerate";
  blas.path = fileOfAddress(reinterpret_cast<void*>(&cblas_sgemm));
  blas.sgemm = acceleratedSgemm;
  blas.sgemv = acceleratedSgemv;
  blas.setThreads = setAccelerateThreads;
  return blas;
}

}  // namespace

const BlasLibrary* linkedAccelerate() {
  static const auto* const accelerate = new BlasLibrary(describeAccelerate());
  return accelerate;
}

}  // namespace sgemoe
