// Finds which compiled instruction sets this processor and its operating system can run.
#pragma once

#include "kernels/kernels.h"

namespace sgemoe {

// The table of the widest instruction set that runs here. Never null.
const KernelTable* bestKernelTable();

// The table named 'baseline', 'avx2', 'avxvnni', 'avx512', 'avx512vnni', 'neon', 'neondot' or 'neoni8mm'. Null if this machine can't run it or the build doesn't have
// it; `reason` is then a sentence that says so.
const KernelTable* kernelTableNamed(const char* name, const char** reason);

}  // namespace sgemoe
