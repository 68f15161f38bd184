// Chooses the code that multiplies two matrices on the calling thread: the BLAS library or the built-in kernel.
#pragma once

#include "blas.h"
#include "kernels/kernels.h"

namespace sgemoe {

enum class SgemmChoice {
  libraryOnly,      // the library, for every matmul that its 32-bit integers can express
  fastestOfTheTwo,  // the built-in kernel at the sizes where it is measured to win
};

// A serial sgemm over the library (null: none) and the built-in kernel of the table. Equal arguments give the same
// function. Null when the process has used up its 16 different combinations.
SgemmFn serialSgemm(const BlasLibrary* blas, const KernelTable* table, SgemmChoice choice);

}  // namespace sgemoe
