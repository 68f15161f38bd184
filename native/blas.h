// Finds cblas_sgemm: Accelerate when linked, else a library opened at run time.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace sgemoe {

// The arguments of the C interface to BLAS, with 32-bit integers. Constants as in its header.
constexpr int kCblasRowMajor = 101, kCblasNoTrans = 111, kCblasTrans = 112;
using CblasSgemm = void (*)(int layout, int transA, int transB, int m, int n, int k, float alpha, const float* a,
                            int lda, const float* b, int ldb, float beta, float* c, int ldc);
using CblasSgemv = void (*)(int layout, int trans, int m, int n, float alpha, const float* a, int lda, const float* x,
                            int incX, float beta, float* y, int incY);

struct BlasLibrary {
  std::string name;     // 'OpenBLAS', 'Accelerate', 'MKL', 'BLIS', or 'cblas' when the library doesn't say
  std::string version;  // '' when the library doesn't say
  std::string core;     // the processor family it chose its kernels for, '' when it doesn't say
  std::string path;     // the file that was really opened
  std::string note;     // for the user: why it isn't fast; '' if nothing is amiss
  CblasSgemm sgemm = nullptr;
  CblasSgemv sgemv = nullptr;  // null when the library has none
  // setThreads(1) limits the library to one thread. Call it on every thread that uses the library: in an OpenMP
  // build of OpenBLAS and in Accelerate the limit belongs to the calling thread. Null when there is nothing to set.
  void (*setThreads)(int64_t threads) = nullptr;
};

// File names and paths under which OpenBLAS is usually found on this system, in the order to try them.
const std::vector<std::string>& openBlasPaths();

// Opens a library with cblas_sgemm and 32-bit integers; opening it again gives the same object. It is never closed, since
// pool threads may be inside it. Returns null on failure, with the reason for the user in `reason`.
const BlasLibrary* openBlas(const std::string& path, std::string* reason);

// Accelerate, when this build is linked with it; null otherwise.
const BlasLibrary* linkedAccelerate();

}  // namespace sgemoe
