#include "blas.h"

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "cpu.h"
#include "dynamic_library.h"

namespace sgemoe {
namespace {

template <class Function>
bool load(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(librarySymbol(library, name));
  return *function != nullptr;
}

// The text between `before` and the next space; '' if `before` is missing.
std::string wordAfter(const std::string& text, const std::string& before) {
  const size_t found = text.find(before);
  if (found == std::string::npos) return "";
  const size_t start = found + before.size();
  return text.substr(start, text.find(' ', start) - start);
}

// ---------------------------------------------------------------- the makes of library

struct Opened {
  BlasLibrary blas;
  bool says64Bit = false;
};

bool describeOpenBlas(void* library, Opened* opened) {
  char* (*config)();
  if (!load(library, "openblas_get_config", &config)) return false;
  const std::string text = config();  // such as 'OpenBLAS 0.3.21 DYNAMIC_ARCH NO_AFFINITY SkylakeX MAX_THREADS=64'
  opened->blas.name = "OpenBLAS";
  opened->blas.version = wordAfter(text, "OpenBLAS ");
  opened->says64Bit = text.find("USE64BITINT") != std::string::npos;
  char* (*core)();
  if (load(library, "openblas_get_corename", &core)) opened->blas.core = core();
  load(library, "openblas_set_num_threads", &opened->blas.setThreads);
  return true;
}

// The names with capitals take their arguments by value; the others are for Fortran.
bool describeMkl(void* library, Opened* opened) {
  void (*version)(char* text, int length);
  if (!load(library, "MKL_Get_Version_String", &version)) return false;
  // This must come first, or MKL looks for an OpenMP library. 1 means sequential.
  int (*setThreadingLayer)(int);
  if (load(library, "MKL_Set_Threading_Layer", &setThreadingLayer)) setThreadingLayer(1);
  char text[256] = "";
  version(text, sizeof text - 1);
  opened->blas.name = "MKL";
  opened->blas.version = wordAfter(text, "Version ");
  load(library, "MKL_Set_Num_Threads", &opened->blas.setThreads);
  return true;
}

bool describeBlis(void* library, Opened* opened) {
  const char* (*version)();
  if (!load(library, "bli_info_get_version_str", &version)) return false;
  opened->blas.name = "BLIS";
  opened->blas.version = version();
  int (*coreId)();
  const char* (*coreName)(int);
  if (load(library, "bli_arch_query_id", &coreId) && load(library, "bli_arch_string", &coreName)) {
    opened->blas.core = coreName(coreId());
  }
  load(library, "bli_thread_set_num_threads", &opened->blas.setThreads);
  return true;
}

// ---------------------------------------------------------------- OpenBLAS on processors younger than itself

// On an unknown Intel processor OpenBLAS chooses the kernels of a Pentium 4, which are ten times slower than those of the
// processor's relatives: release 0.3.21 (Debian 12) does so on Emerald Rapids. Other old cores appear by the same rule.
bool isOlderThanAvx2(const std::string& core) {
  static const char* const kOldCores[] = {"Prescott",   "Core2",       "Penryn",    "Dunnington", "Nehalem",
                                          "Atom",       "Sandybridge", "Opteron",   "Barcelona",  "Bobcat",
                                          "Bulldozer", "Piledriver",  "Steamroller"};
  for (const char* old : kOldCores) {
    if (core == old) return true;
  }
  return false;
}

// The core whose kernels fit this processor, if OpenBLAS chose one far below it; otherwise null.
const char* betterCore(void* library) {
  char* (*core)();
  if (!load(library, "openblas_get_corename", &core) || !isOlderThanAvx2(core())) return nullptr;
  const char* instructionSet = bestKernelTable()->instructionSet;
  if (std::strncmp(instructionSet, "avx512", 6) == 0) return "SkylakeX";
  if (std::strcmp(instructionSet, "avx2") == 0) return "Haswell";
  return nullptr;
}

// OpenBLAS chooses while it is loaded, and reads OPENBLAS_CORETYPE then. Two functions of its own make it choose again,
// which takes microseconds instead of the milliseconds of closing and reopening it. This is only done for a library that
// the process opens for the first time, since nobody may compute with it meanwhile, and not if the user set the variable.
void chooseBetterCore(void* library) {
#if !defined(_WIN32)
  const char* core = betterCore(library);
  void (*forget)();
  void (*choose)();
  if (core == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  if (!load(library, "gotoblas_dynamic_quit", &forget) || !load(library, "gotoblas_dynamic_init", &choose)) return;
  setenv("OPENBLAS_CORETYPE", core, 1);
  forget();
  choose();
  unsetenv("OPENBLAS_CORETYPE");
#else
  (void)library;
#endif
}

std::string coreNote(void* library, const std::string& chosen) {
  const char* core = betterCore(library);
  if (core == nullptr) return "";
  return "OpenBLAS does not know this processor and uses slow kernels (" + chosen + "); start with OPENBLAS_CORETYPE=" +
         core + " in the environment, or install a newer OpenBLAS.";
}

// ---------------------------------------------------------------- width of the integers

// A library with 64-bit integers under the plain names would read garbage from the upper halves of our arguments.
// n below is 1 to a library that looks at 32 bits; to one that looks at 64 it is negative, and the dot product 0.
bool has32BitIntegers(void* cblasSdot) {
  using Sdot = float (*)(int64_t n, const float* x, int64_t incX, const float* y, int64_t incY);
  const float x = 3, y = 7;
  const auto n = static_cast<int64_t>(UINT64_C(0xffffffff00000001));
  return reinterpret_cast<Sdot>(cblasSdot)(n, &x, 1, &y, 1) == 21.0f;
}

bool describe(void* library, Opened* opened, std::string* reason) {
  BlasLibrary& blas = opened->blas;
  if (!load(library, "cblas_sgemm", &blas.sgemm)) {
    *reason = "it has no cblas_sgemm";
    return false;
  }
  void* const cblasSdot = librarySymbol(library, "cblas_sdot");
  if (cblasSdot == nullptr) {
    *reason = "it has no cblas_sdot, with which the width of its integers is tested";
    return false;
  }
  load(library, "cblas_sgemv", &blas.sgemv);
  if (!describeOpenBlas(library, opened) && !describeMkl(library, opened) && !describeBlis(library, opened)) {
    blas.name = "cblas";
  }
  if (opened->says64Bit || !has32BitIntegers(cblasSdot)) {
    *reason = "it is a build with 64-bit integers; one with 32-bit integers is needed";
    return false;
  }
  if (blas.setThreads != nullptr) blas.setThreads(1);
  blas.note = coreNote(library, blas.core);
  blas.path = fileOfAddress(reinterpret_cast<void*>(blas.sgemm));
  return true;
}

}  // namespace

const std::vector<std::string>& openBlasPaths() {
  static const auto* const paths = new std::vector<std::string>{
#if defined(_WIN32)
      "libopenblas.dll", "openblas.dll",
#elif defined(__APPLE__)
      "/opt/homebrew/opt/openblas/lib/libopenblas.dylib", "/usr/local/opt/openblas/lib/libopenblas.dylib",
      "libopenblas.dylib",
#else
      "libopenblas.so.0", "libopenblas.so", "libopenblasp.so.0",
#endif
  };
  return *paths;
}

const BlasLibrary* openBlas(const std::string& path, std::string* reason) {
  static auto* const mutex = new std::mutex;
  static auto* const libraries = new std::vector<const BlasLibrary*>;
  std::lock_guard<std::mutex> lock(*mutex);
  const bool wasOpen = isLibraryOpen(path);
  void* library = openLibrary(path, reason);
  if (library == nullptr) return nullptr;
  if (!wasOpen) chooseBetterCore(library);
  Opened opened;
  if (!describe(library, &opened, reason)) return nullptr;
  for (const BlasLibrary* known : *libraries) {
    if (known->sgemm == opened.blas.sgemm) return known;
  }
  libraries->reserve(libraries->size() + 1);
  libraries->push_back(new BlasLibrary(opened.blas));
  return libraries->back();
}

#if !defined(SGEMOE_ACCELERATE)
const BlasLibrary* linkedAccelerate() { return nullptr; }
#endif

}  // namespace sgemoe
