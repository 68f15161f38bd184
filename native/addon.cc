// The module: create(backend, blasPath, instructionSet, exact, matmul, tiles) returns the kernel functions and describes what
// they compute with. Only this file and addon/ know Node-API. They keep no state of an environment, so any number of worker threads
// may load the module.
#include <napi.h>

#include <cstring>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "addon/entries.h"
#include "allocator.h"
#include "blas.h"
#include "comm/binding.h"
#include "cpu.h"
#include "dispatch.h"
#include "dynamic_library.h"
#include "huge_pages.h"
#include "mapping.h"
#include "parallel.h"
#include "tiles.h"

namespace sgemoe {

void raise(const ArgumentError& error) { throw error; }

void throwAsJavaScript(napi_env env, const char* kernel) {
  try {
    throw;
  } catch (const ArgumentError& error) {
    constexpr decltype(&napi_throw_error) kThrow[] = {napi_throw_type_error, napi_throw_range_error, napi_throw_error};
    kThrow[error.kind](env, nullptr, error.message.c_str());
  } catch (const std::bad_alloc&) {
    napi_throw_error(env, nullptr, (std::string(kernel) + ": out of memory").c_str());
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, (std::string(kernel) + ": " + error.what()).c_str());
  }
}

napi_value enter(napi_env env, napi_callback_info info, const char* name, void (*kernel)(Args&)) {
  try {
    Args args(env, info, name);
    kernel(args);
  } catch (...) {
    throwAsJavaScript(env, name);
  }
  return nullptr;
}

napi_value enter(napi_env env, napi_callback_info info, const char* name, double (*kernel)(Args&)) {
  napi_value result = nullptr;
  try {
    Args args(env, info, name);
    napi_create_double(env, kernel(args), &result);
  } catch (...) {
    throwAsJavaScript(env, name);
  }
  return result;
}

napi_value enter(napi_env env, napi_callback_info info, const char* name, napi_value (*make)(Args&, napi_env)) {
  try {
    Args args(env, info, name);
    return make(args, env);
  } catch (...) {
    throwAsJavaScript(env, name);
  }
  return nullptr;
}

// ---------------------------------------------------------------- the pool and memory, as kernels.ts has them

namespace entries {

void setThreads(Args& args) {
  const int64_t threads = args.integer("threads", 1, kMaxThreads + 1);
  args.done();
  setThreadCount(static_cast<int>(threads));
}

double alignmentPadding(Args& args) {
  const Floats x = args.floatsWithoutOffset("x");
  const auto address = reinterpret_cast<uintptr_t>(x.data);
  return static_cast<double>((64 - address % 64) % 64 / sizeof(float));
}

void adviseHugePages(Args& args) {
  const Floats x = args.floatsWithoutOffset("x");
  sgemoe::adviseHugePages(x.data, static_cast<size_t>(x.length) * sizeof(float));
}

}  // namespace entries

namespace {

double threads(Args&) { return threadCount(); }  // for the getter of `info` in native.ts

constexpr Entry kEntries[] = {
#define ENTRY(name, function)                                                                 \
  {name, [](napi_env env, napi_callback_info info) { return enter(env, info, name, function); }},
    ENTRY("threads", threads)
#define SGEMOE_KERNEL(result, name, parameters) ENTRY(#name, entries::name)
#define SGEMOE_ENTRY(result, name) ENTRY(#name, entries::name)
#define SGEMOE_OBJECT(result, name) ENTRY(#name, entries::name)
#include "kernels.def"
#undef ENTRY
};

// ---------------------------------------------------------------- choosing what computes

struct Choice {
  std::string backend;
  const BlasLibrary* blas = nullptr;
  SgemmChoice sgemm = SgemmChoice::libraryOnly;
  std::vector<std::string> notes;
};

struct Unavailable {
  std::string message;
};

std::string backendOf(const BlasLibrary& blas) {
  return blas.name == "OpenBLAS" ? "openblas" : blas.name == "Accelerate" ? "accelerate" : "blas";
}

// The first library that opens; null if none does, with a line for each failure in `tried`.
const BlasLibrary* openFirst(const std::vector<std::string>& paths, std::string* tried) {
  for (const std::string& path : paths) {
    std::string reason;
    if (const BlasLibrary* blas = openBlas(path, &reason)) return blas;
    *tried += "\n  " + path + ": " + reason;
  }
  return nullptr;
}

const char* installCommand() {
#if defined(_WIN32)
  return "put libopenblas.dll on the PATH, or name a library in SGEMOE_BLAS";
#elif defined(__APPLE__)
  return "brew install openblas";
#else
  return "apt-get install libopenblas0 (Fedora: dnf install openblas; Alpine: apk add openblas)";
#endif
}

// Measured by bench/crossover.js: docs/performance.md, "What OpenBLAS adds".
const char* whatLibraryAdds() {
#if defined(__x86_64__) || defined(_M_X64)
  return " With AVX2 and AVX-512 that is as fast; OpenBLAS would add up to a tenth in few small matmuls.";
#else
  return " What OpenBLAS would add on this processor has not been measured.";
#endif
}

Choice chooseLibrary(const std::string& backend, const std::vector<std::string>& paths) {
  std::string tried;
  const BlasLibrary* blas = openFirst(paths, &tried);
  if (blas == nullptr) throw Unavailable{"No usable BLAS library. Tried:" + tried};
  if (backend == "openblas" && blas->name != "OpenBLAS") {
    throw Unavailable{blas->path + " is not OpenBLAS but " + blas->name + "; ask for the backend 'blas'."};
  }
  return {backendOf(*blas), blas, SgemmChoice::libraryOnly, {}};
}

Choice chooseBest() {
  if (const BlasLibrary* accelerate = linkedAccelerate()) {
    return {"accelerate", accelerate, SgemmChoice::libraryOnly, {}};
  }
  std::string tried;
  if (const BlasLibrary* blas = openFirst(openBlasPaths(), &tried)) {
    return {backendOf(*blas), blas, SgemmChoice::fastestOfTheTwo, {}};
  }
  return {"builtin",
          nullptr,
          SgemmChoice::fastestOfTheTwo,
          {std::string("OpenBLAS was not found, so the built-in matmul is in use.") + whatLibraryAdds() +
           " To install it: " + installCommand() + ". Tried:" + tried}};
}

Choice choose(const std::string& backend, const std::string* blasPath) {
  if (backend == "builtin") return {"builtin", nullptr, SgemmChoice::libraryOnly, {}};
  if (backend == "accelerate") {
    const BlasLibrary* accelerate = linkedAccelerate();
    if (accelerate == nullptr) throw Unavailable{"This build of the addon is not linked with Accelerate."};
    return {"accelerate", accelerate, SgemmChoice::libraryOnly, {}};
  }
  if (backend == "blas" && blasPath == nullptr) throw Unavailable{"The backend 'blas' needs the path of a library."};
  if (backend == "auto" && blasPath == nullptr) return chooseBest();
  if (backend == "auto" || backend == "blas" || backend == "openblas") {
    return chooseLibrary(backend, blasPath != nullptr ? std::vector<std::string>{*blasPath} : openBlasPaths());
  }
  throw Unavailable{"There is no backend '" + backend + "'."};
}

const KernelTable* chooseTable(const std::string* instructionSet) {
  if (instructionSet == nullptr) return bestKernelTable();
  const char* reason = "";
  const KernelTable* table = kernelTableNamed(instructionSet->c_str(), &reason);
  if (table == nullptr) {
    throw Unavailable{"The instruction set '" + *instructionSet + "' can't be used: " + reason + "."};
  }
  return table;
}

// What a matrix unit multiplies: with 'fma' nothing, else operands rounded to bfloat16, and many rows by matrices in bfloat16 and in
// blocks; with 'split' all large products. Vectors of pairs multiply the first of these alone.
struct TileChoice {
  const TileWays* ways = nullptr;
  bool splits = false;
  const char* note = nullptr;
};

TileChoice chooseTiles(const KernelTable* table, const std::string* matmul, const std::string* tiles) {
  TileChoice choice;
  if (matmul != nullptr && *matmul == "fma") return choice;
  const TileUnit* unit = nullptr;
  if (tiles != nullptr) {
    unit = *tiles == "pairsModel" ? &modelPairsUnit() : &modelUnit();
  } else {
    unit = amxUnit(&choice.note);
    if (unit == nullptr) unit = pairsUnit(table);
  }
  choice.ways = tileWays(table, unit);
  choice.splits = matmul != nullptr && *matmul == "split";
  if (choice.splits && (choice.ways == nullptr || !choice.ways->splits())) {
    throw Unavailable{std::string("Products of split float32 need a matrix unit (AMX on Linux), which this process lacks. ") +
                      (choice.note != nullptr ? choice.note : "")};
  }
  return choice;
}

// Contexts are kept, one for each requested combination; serialSgemm limits their number.
const Context* contextFor(const Choice& choice, const KernelTable* table, bool exact, const TileChoice& tiles) {
  static auto* const mutex = new std::mutex;
  static auto* const contexts = new std::deque<Context>;
  // On other instruction sets the built-in kernel was never measured against a library.
  const bool measured = std::strncmp(table->instructionSet, "avx", 3) == 0;
  const SgemmChoice sgemm = measured ? choice.sgemm : SgemmChoice::libraryOnly;
  const SgemmFn serial = serialSgemm(choice.blas, table, sgemm);
  if (serial == nullptr) throw Unavailable{"Too many different BLAS libraries were used in this process."};
  const bool builtin = choice.blas == nullptr || sgemm != SgemmChoice::libraryOnly;
  const PanelKernels* const split = tiles.splits ? &tiles.ways->split : nullptr;
  const PanelKernels* const bfloat16 = tiles.ways != nullptr && tiles.ways->splits() ? &tiles.ways->bfloat16 : nullptr;
  const PanelKernels* const rounded = tiles.ways != nullptr ? &tiles.ways->rounded : table->roundedPanels;
  std::lock_guard<std::mutex> lock(*mutex);
  for (const Context& context : *contexts) {
    if (context.table == table && context.gemm.serial == serial && context.exact == exact &&
        context.gemm.others == split && context.bfloat16Tiles == bfloat16 && context.rounded.others == rounded) {
      return &context;
    }
  }
  const KernelTable* const large = builtin || tiles.splits ? table : nullptr;
  contexts->push_back(
      {table, {serial, large, split}, builtin, exact, bfloat16, split, {serial, table, rounded}});
  return &contexts->back();
}

// ---------------------------------------------------------------- JavaScript

const std::string* textOrNull(const Napi::Value& value, const char* name, std::string* storage) {
  if (value.IsNull() || value.IsUndefined()) return nullptr;
  if (!value.IsString()) {
    throw Napi::TypeError::New(value.Env(), std::string("create: ") + name + " must be a string or null");
  }
  *storage = value.As<Napi::String>().Utf8Value();
  return storage;
}

Napi::Value describeBlas(Napi::Env env, const BlasLibrary* blas) {
  if (blas == nullptr) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object["name"] = Napi::String::New(env, blas->name);
  object["version"] = Napi::String::New(env, blas->version);
  object["core"] = Napi::String::New(env, blas->core);
  object["path"] = Napi::String::New(env, blas->path);
  return object;
}

Napi::Object describe(Napi::Env env, const Choice& choice, const KernelTable* table, bool exact,
                      const TileChoice& tiles) {
  Napi::Array notes = Napi::Array::New(env);
  for (const std::string& note : choice.notes) notes[notes.Length()] = Napi::String::New(env, note);
  if (choice.blas != nullptr && !choice.blas->note.empty()) {
    notes[notes.Length()] = Napi::String::New(env, choice.blas->note);
  }
  if (const char* note = threadCountNote()) notes[notes.Length()] = Napi::String::New(env, note);
  if (tiles.note != nullptr) notes[notes.Length()] = Napi::String::New(env, tiles.note);
  Napi::Object info = Napi::Object::New(env);
  info["backend"] = Napi::String::New(env, choice.backend);
  info["blas"] = describeBlas(env, choice.blas);
  info["instructionSet"] = Napi::String::New(env, table->instructionSet);
  info["exactProducts"] = Napi::Boolean::New(env, exact);
  info["matrixUnit"] = Napi::String::New(env, tiles.ways != nullptr ? tiles.ways->unit->name : "none");
  info["matmul"] = Napi::String::New(env, tiles.splits ? "split" : "fma");
  info["notes"] = notes;
  return info;
}

Napi::Object bindKernels(Napi::Env env, const Context* context) {
  Napi::Object kernels = Napi::Object::New(env);
  for (const Entry& entry : kEntries) {
    napi_value function = nullptr;
    const napi_status status = napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.call,
                                                    const_cast<Context*>(context), &function);
    if (status != napi_ok) throw Napi::Error::New(env);
    kernels.Set(entry.name, Napi::Value(env, function));
  }
  return kernels;
}

Napi::Value create(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  try {
    if (!call[0].IsString()) throw Napi::TypeError::New(env, "create: backend must be a string");
    const std::string backend = call[0].As<Napi::String>().Utf8Value();
    std::string blasPathStorage, instructionSetStorage, matmulStorage, tilesStorage;
    const std::string* blasPath = textOrNull(call[1], "blasPath", &blasPathStorage);
    const std::string* instructionSet = textOrNull(call[2], "instructionSet", &instructionSetStorage);
    const KernelTable* table = chooseTable(instructionSet);
    const bool exact = call[3].ToBoolean() || table->stored->rounded == nullptr;
    const std::string* matmul = textOrNull(call[4], "matmul", &matmulStorage);
    const TileChoice tiles = chooseTiles(table, matmul, textOrNull(call[5], "tiles", &tilesStorage));
    const Choice choice = choose(backend, blasPath);
    Napi::Object kernels = bindKernels(env, contextFor(choice, table, exact, tiles));
    kernels["info"] = describe(env, choice, table, exact, tiles);
    return kernels;
  } catch (const Unavailable& unavailable) {
    throw Napi::Error::New(env, unavailable.message);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {  // out of memory, out of threads
    throw Napi::Error::New(env, std::string("create: ") + error.what());
  }
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  pinThisLibrary();
  keepFreedMemory();
  exports["create"] = Napi::Function::New(env, create, "create");
  exports["mapFile"] = Napi::Function::New(env, mapFile, "mapFile");
  napi_value open = nullptr;
  napi_create_function(env, "openRanks", NAPI_AUTO_LENGTH, openRanks, nullptr, &open);
  exports["openRanks"] = Napi::Value(env, open);
  napi_value join = nullptr;
  napi_create_function(env, "joinRanks", NAPI_AUTO_LENGTH, joinRanks, nullptr, &join);
  exports["joinRanks"] = Napi::Value(env, join);
  exports["mappingState"] = Napi::Function::New(env, mappingState, "mappingState");
  // In a bundle only the addon itself knows the path of its file, and workers load the same file.
  exports["path"] = Napi::String::New(env, fileOfAddress(reinterpret_cast<void*>(&fileOfAddress)));
  return exports;
}

}  // namespace
}  // namespace sgemoe

static Napi::Object initializeModule(Napi::Env env, Napi::Object exports) { return sgemoe::initialize(env, exports); }
NODE_API_MODULE(sgemoe, initializeModule)
