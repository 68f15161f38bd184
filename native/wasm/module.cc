// The WebAssembly module: one exported function for each line of kernels.def, called with the arguments that JavaScript
// has written into this memory. Checks (addon/) and kernels are the addon's; matmuls are the built-in ones.
#include <node_api.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>

#include "../addon/entries.h"
#include "../addon/handles.h"
#include "../arith.h"
#include "../parallel.h"
#include "host.h"

namespace sgemoe {

namespace SGEMOE_ISA {
extern const KernelTable kTable;
extern const PanelKernels kRoundedPanelKernels;
}

namespace {

// This is what the addon uses (dispatch.cc) where there is no library.
void serialSgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                 const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0 || alpha == 0) return scaleMatrix(m, n, beta, c, ldc);
  SGEMOE_ISA::kTable.sgemm(transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

const Gemm kGemm = {serialSgemm, &SGEMOE_ISA::kTable};
const Gemm kRounded = {serialSgemm, &SGEMOE_ISA::kTable, &SGEMOE_ISA::kRoundedPanelKernels};
const Context kContext = {&SGEMOE_ISA::kTable, kGemm, true, true, nullptr, nullptr, kRounded};

thread_local host::Written written[host::kMaxWritten];
thread_local uint32_t writtenCount = 0;

// Memory of operator new, which a call uses for the text of its error. The next call uses it anew.
constexpr size_t kTextBytes = 8192;
alignas(16) thread_local char texts[kTextBytes];
thread_local size_t textsUsed = 0;

}  // namespace

namespace host {

void noteWritten(uintptr_t begin, uintptr_t end) {
  if (writtenCount < kMaxWritten) written[writtenCount++] = {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
}

void beginCall() {
  writtenCount = 0;
  textsUsed = 0;
  forgetScratch();
}

}  // namespace host

void raise(const ArgumentError& error) {
  host::throwError(error.kind, error.message.data(), static_cast<uint32_t>(error.message.size()));
}

namespace {

// The bytes lie in this memory, where JavaScript keeps them.
class Stored final : public StoredHandle {
 public:
  explicit Stored(const StoredMatrices& of) { matrices = of; }
  bool isGone(int64_t) const override { return false; }
};

}  // namespace

const StoredHandle* storedHandle(napi_env, napi_value value) {
  if (value->kind != napi_external) return nullptr;
  return reinterpret_cast<const Stored*>(static_cast<size_t>(value->value));
}

// storedBytes() is the size of an object of stored matrices. makeStored() makes one at `at`, whose address JavaScript then
// passes for the matrices. JavaScript has checked the arguments (src/backend/wasm/stored.ts).
extern "C" __attribute__((export_name("storedBytes"))) uint32_t bytesOfStored() { return sizeof(Stored); }
extern "C" __attribute__((export_name("makeStored"))) void makeStored(void* at, int32_t type, double rows, double cols,
                                                                    double rowBytes, double count,
                                                                    const uint8_t* const* parts) {
  new (at) Stored({static_cast<StorageType>(type), static_cast<int64_t>(rows), static_cast<int64_t>(cols),
                   static_cast<int64_t>(count), static_cast<int64_t>(rowBytes), parts});
}

// ---------------------------------------------------------------- entries that the addon defines beside Node-API

namespace entries {

void setThreads(Args& args) {
  const int64_t threads = args.integer("threads", 1, 257);
  args.done();
  setThreadCount(static_cast<int>(threads));
}

double alignmentPadding(Args& args) {
  const Floats x = args.floatsWithoutOffset("x");
  const auto address = reinterpret_cast<uintptr_t>(x.data);
  return static_cast<double>((64 - address % 64) % 64 / sizeof(float));
}

void adviseHugePages(Args& args) { args.floatsWithoutOffset("x"); }

}  // namespace entries

namespace {

template <class Result>
double enter(SgemoeArgument* arguments, uint32_t count, const char* name, Result (*kernel)(Args&)) {
  host::beginCall();
  const SgemoeCall call{arguments, count};
  Args args(nullptr, &call, name);
  if constexpr (std::is_void_v<Result>) {
    kernel(args);
    return 0;
  } else {
    return kernel(args);
  }
}

}  // namespace

#define ENTRY(name)                                                                                   \
  extern "C" __attribute__((export_name(#name))) double enter_##name(SgemoeArgument* arguments, uint32_t count) { \
    return enter(arguments, count, #name, entries::name);                                             \
  }
#define SGEMOE_KERNEL(result, name, parameters) ENTRY(name)
#define SGEMOE_ENTRY(result, name) ENTRY(name)
#include "../kernels.def"
#undef ENTRY

// Where the ranges that a call has written are kept for this thread, and how many they are.
extern "C" __attribute__((export_name("writtenRanges"))) host::Written* writtenRanges() { return written; }
extern "C" __attribute__((export_name("writtenCount"))) uint32_t countOfWritten() { return writtenCount; }

}  // namespace sgemoe

// ---------------------------------------------------------------- Node-API's functions

napi_status napi_get_cb_info(napi_env, napi_callback_info info, size_t* count, napi_value* values, napi_value*,
                             void** data) {
  static SgemoeArgument missing{napi_undefined, 0, 0};
  for (size_t i = 0; i < *count; i++) values[i] = i < info->count ? info->arguments + i : &missing;
  *data = const_cast<sgemoe::Context*>(&sgemoe::kContext);
  return napi_ok;
}

napi_status napi_create_double(napi_env, double number, napi_value* result) {
  thread_local SgemoeArgument made;
  made = {napi_number, number, 0};
  *result = &made;
  return napi_ok;
}

namespace {
constexpr double kCoerced = -1;  // the kind of a number that stands for its text
}

napi_status napi_coerce_to_string(napi_env, napi_value value, napi_value* result) {
  thread_local SgemoeArgument made;
  made = {kCoerced, value->value, 0};
  *result = &made;
  return napi_ok;
}

napi_status napi_get_value_string_utf8(napi_env, napi_value value, char* text, size_t bytes, size_t* length) {
  if (value->kind == napi_string) {
    *length = static_cast<size_t>(value->length) < bytes ? static_cast<size_t>(value->length) : bytes - 1;
    std::memcpy(text, reinterpret_cast<const char*>(static_cast<size_t>(value->value)), *length);
    text[*length] = 0;
    return napi_ok;
  }
  if (value->kind != kCoerced) return napi_invalid_arg;
  *length = sgemoe::host::numberText(value->value, text, static_cast<uint32_t>(bytes - 1));
  text[*length] = 0;
  return napi_ok;
}

// ---------------------------------------------------------------- C++'s heap

// The heap holds the texts of errors, which no destructor frees (host::throwError).
void* operator new(size_t bytes) {
  const size_t rounded = (bytes + 15) / 16 * 16;
  if (rounded > sgemoe::kTextBytes - sgemoe::textsUsed) __builtin_trap();
  void* const memory = sgemoe::texts + sgemoe::textsUsed;
  sgemoe::textsUsed += rounded;
  return memory;
}
void operator delete(void*) noexcept {}
void operator delete(void*, size_t) noexcept {}
