/* Accelerate as far as sgemoe needs it, computed by OpenBLAS. */
#define ACCELERATE_NEW_LAPACK
#ifdef FAKE_NEW_NAMES
/* This file defines the plain names otherwise than the header declares them. */
#define cblas_sgemm declaredSgemm
#define cblas_sgemv declaredSgemv
#include <Accelerate/Accelerate.h>
#undef cblas_sgemm
#undef cblas_sgemv
#else
#include <Accelerate/Accelerate.h>
#endif
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*Sgemm)(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, enum CBLAS_TRANSPOSE, int, int, int, float, const float*,
                      int, const float*, int, float, float*, int);
typedef void (*Sgemv)(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, int, int, float, const float*, int, const float*, int,
                      float, float*, int);

static void* openblas;
static Sgemm sgemm;
static Sgemv sgemv;
static __thread unsigned threading; /* as in macOS 15: 1 limits the calling thread */

static void* symbol(const char* name) {
  void* address = openblas ? dlsym(openblas, name) : NULL;
  if (address == NULL) {
    fprintf(stderr, "fake Accelerate: OpenBLAS has no %s, or is not installed\n", name);
    exit(3);
  }
  return address;
}

__attribute__((constructor)) static void load(void) {
  openblas = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  sgemm = (Sgemm)symbol("cblas_sgemm");
  sgemv = (Sgemv)symbol("cblas_sgemv");
  ((void (*)(int))symbol("openblas_set_num_threads"))(1);
}

int BLASSetThreading(unsigned value) {
  threading = value;
  return 0;
}

/* Whoever computes without having asked for one thread gets no result: sgemoe must ask on every thread. */
static void requireOneThread(const char* name) {
  if (threading != 1) {
    fprintf(stderr, "fake Accelerate: %s on a thread that did not call BLASSetThreading(1)\n", name);
    exit(4);
  }
}

#ifdef FAKE_NEW_NAMES
/* As from macOS 13.3 on: the interface with ACCELERATE_NEW_LAPACK has names of its own beside the plain ones. */
#define NEW_NAME(name) __asm__(name "$NEWLAPACK")
void newSgemm(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, enum CBLAS_TRANSPOSE, __LAPACK_int, __LAPACK_int, __LAPACK_int,
              float, const float*, __LAPACK_int, const float*, __LAPACK_int, float, float*,
              __LAPACK_int) NEW_NAME("cblas_sgemm");
void newSgemv(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, __LAPACK_int, __LAPACK_int, float, const float*, __LAPACK_int,
              const float*, __LAPACK_int, float, float*, __LAPACK_int) NEW_NAME("cblas_sgemv");

static void plainName(const char* name) {
  fprintf(stderr, "fake Accelerate: %s, which the new name stands before\n", name);
  exit(5);
}
void cblas_sgemm(void) { plainName("cblas_sgemm"); }
void cblas_sgemv(void) { plainName("cblas_sgemv"); }
#define EXPORTED(name, newName) newName
#else
#define EXPORTED(name, newName) name
#endif

void EXPORTED(cblas_sgemm, newSgemm)(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE transA, enum CBLAS_TRANSPOSE transB, __LAPACK_int m,
                 __LAPACK_int n, __LAPACK_int k, float alpha, const float* a, __LAPACK_int lda, const float* b,
                 __LAPACK_int ldb, float beta, float* c, __LAPACK_int ldc) {
  requireOneThread("cblas_sgemm");
  sgemm(order, transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void EXPORTED(cblas_sgemv, newSgemv)(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans, __LAPACK_int m, __LAPACK_int n, float alpha,
                 const float* a, __LAPACK_int lda, const float* x, __LAPACK_int incX, float beta, float* y,
                 __LAPACK_int incY) {
  requireOneThread("cblas_sgemv");
  sgemv(order, trans, m, n, alpha, a, lda, x, incX, beta, y, incY);
}
