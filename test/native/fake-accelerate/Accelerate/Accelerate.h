/* The part of Apple's header that native/blas_accelerate.cc uses, so that it can be compiled and run elsewhere. */
#pragma once

#ifndef ACCELERATE_NEW_LAPACK
#error "The interface with ACCELERATE_NEW_LAPACK is meant: without it, Accelerate's BLAS is deprecated."
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef int __LAPACK_int;
enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 };
typedef enum CBLAS_ORDER CBLAS_ORDER;
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112, CblasConjTrans = 113 };
typedef enum CBLAS_TRANSPOSE CBLAS_TRANSPOSE;

void cblas_sgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE transA, enum CBLAS_TRANSPOSE transB, __LAPACK_int m,
                 __LAPACK_int n, __LAPACK_int k, float alpha, const float* a, __LAPACK_int lda, const float* b,
                 __LAPACK_int ldb, float beta, float* c, __LAPACK_int ldc);
void cblas_sgemv(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans, __LAPACK_int m, __LAPACK_int n, float alpha,
                 const float* a, __LAPACK_int lda, const float* x, __LAPACK_int incX, float beta, float* y,
                 __LAPACK_int incY);

#ifdef __cplusplus
}
#endif
