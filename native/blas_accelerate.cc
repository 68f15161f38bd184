// Apple's Accelerate. Compiled only with SGEMOE_ACCELERATE, which links it; with SGEMOE_ACCELERATE_AT_RUN_TIME too it is
// opened instead, for builds on a machine without Apple's headers.
#include <dlfcn.h>

#include "blas.h"
#include "dynamic_library.h"

#if defined(SGEMOE_ACCELERATE_AT_RUN_TIME)
#ifndef SGEMOE_ACCELERATE_PATH
#define SGEMOE_ACCELERATE_PATH "/System/Library/Frameworks/Accelerate.framework/Accelerate"
#endif
#else
#define ACCELERATE_NEW_LAPACK
#include <Accelerate/Accelerate.h>
#endif

namespace sgemoe {
namespace {

#if defined(SGEMOE_ACCELERATE_AT_RUN_TIME)

// The name that ACCELERATE_NEW_LAPACK gives a function from macOS 13.3 on, followed by its old name.
template <class Function>
void find(void* library, const std::string& name, Function* function) {
  void* address = librarySymbol(library, (name + "$NEWLAPACK").c_str());
  if (address == nullptr) address = librarySymbol(library, name.c_str());
  *function = reinterpret_cast<Function>(address);
}

// Leaves blas->sgemm null if there is no Accelerate.
void bindFunctions(BlasLibrary* blas) {
  std::string reason;
  void* library = openLibrary(SGEMOE_ACCELERATE_PATH, &reason);
  if (library == nullptr) return;
  find(library, "cblas_sgemm", &blas->sgemm);
  find(library, "cblas_sgemv", &blas->sgemv);
  blas->path = fileOfAddress(reinterpret_cast<void*>(blas->sgemm));
}

#else

// Wrappers are needed because Accelerate's prototypes have enumerations of their own.
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

void bindFunctions(BlasLibrary* blas) {
  blas->sgemm = acceleratedSgemm;
  blas->sgemv = acceleratedSgemv;
  blas->path = fileOfAddress(reinterpret_cast<void*>(&cblas_sgemm));
}

#endif

// macOS 15 added a limit per thread. Looked up by name, because older systems, which this binary still serves,
// don't have it; theirs spread only large matmuls.
using SetThreading = int (*)(unsigned threading);  // 0: as Accelerate likes, 1: the calling thread only

SetThreading setThreadingFunction() {
#if defined(SGEMOE_ACCELERATE_AT_RUN_TIME)
  std::string reason;  // opened already: the path gives the same library again
  void* library = openLibrary(SGEMOE_ACCELERATE_PATH, &reason);
  return reinterpret_cast<SetThreading>(librarySymbol(library, "BLASSetThreading"));
#else
  return reinterpret_cast<SetThreading>(dlsym(RTLD_DEFAULT, "BLASSetThreading"));
#endif
}

void setAccelerateThreads(int64_t threads) {
  static const SetThreading setThreading = setThreadingFunction();
  if (setThreading != nullptr) setThreading(threads == 1 ? 1 : 0);
}

const BlasLibrary* describeAccelerate() {
  BlasLibrary blas;
  blas.name = "Accelerate";
  bindFunctions(&blas);
  blas.setThreads = setAccelerateThreads;
  return blas.sgemm == nullptr ? nullptr : new BlasLibrary(blas);
}

}  // namespace

const BlasLibrary* linkedAccelerate() {
  static const BlasLibrary* const accelerate = describeAccelerate();
  return accelerate;
}

}  // namespace sgemoe
