// Reads and checks the arguments of a kernel call, in the order and words of src/backend/kernels.ts: every type while
// reading, then integers, leading dimensions, lengths, contents. Failures are thrown as ArgumentError, which becomes
// a JavaScript error where the call entered (entries.h).
#pragma once
#include <node_api.h>

#include <cstdint>
#include <string>

#include "../gemm.h"
#include "../kernels/kernels.h"
#include "../stored.h"

namespace sgemoe {

// The tables and libraries of a set of kernel functions. It is never freed, since the functions may outlive everything.
struct Context {
  const KernelTable* table;
  Gemm gemm;
  bool packs;  // whether weights may be packed for the built-in kernel; false if a library must do every matmul
  bool exact;  // whether products by block types take the activations as they are
  // Panels of a matrix unit for stored matrices (StoredUnits); null: none.
  const PanelKernels *bfloat16Tiles = nullptr, *floatTiles = nullptr;
  Gemm rounded = {};  // of operands rounded to bfloat16: its panels multiply all sizes
};

struct ArgumentError {
  enum Kind { type, range, other };
  Kind kind;
  std::string message;
};

// Ends the call: the addon throws it (addon.cc), WebAssembly lets JavaScript throw (wasm/module.cc).
[[noreturn]] void raise(const ArgumentError& error);

// An array argument and the offset argument that follows it.
template <class T>
struct Slice {
  const char* name;
  T* data;
  double length;
  int64_t offset;
  bool isNull;

  T* begin() const { return isNull ? nullptr : data + offset; }
};
using Floats = Slice<float>;
using Ints = Slice<int32_t>;
using Bytes = Slice<uint8_t>;

// Matrices that storedMatrices has made. `isGone(i)` tells that the buffer of matrix i was taken away from this thread.
class StoredHandle {
 public:
  StoredMatrices matrices;
  virtual bool isGone(int64_t index) const = 0;

 protected:
  ~StoredHandle() = default;
};

template <class T>
struct ArrayType;
template <>
struct ArrayType<float> {
  static constexpr napi_typedarray_type kType = napi_float32_array;
  static constexpr const char* kExpected = "a Float32Array";
  static constexpr const char* kExpectedOrNull = "a Float32Array or null";
};
template <>
struct ArrayType<int32_t> {
  static constexpr napi_typedarray_type kType = napi_int32_array;
  static constexpr const char* kExpected = "an Int32Array";
  static constexpr const char* kExpectedOrNull = "an Int32Array or null";
};

template <>
struct ArrayType<uint8_t> {
  static constexpr napi_typedarray_type kType = napi_uint8_array;
  static constexpr const char* kExpected = "a Uint8Array";
  static constexpr const char* kExpectedOrNull = "a Uint8Array or null";
};

// Marks code that only a wrong call reaches, so that the compiler optimises the path of right calls.
#define SGEMOE_COLD __attribute__((cold, noinline))

class Args {
 public:
  Args(napi_env env, napi_callback_info info, const char* kernel);

  const KernelTable& kernels() const { return *context_->table; }
  const Gemm& gemm() const { return context_->gemm; }
  const Gemm& rounded() const { return context_->rounded; }
  bool packs() const { return context_->packs; }
  StoredUnits storedUnits() const {
    // With a matrix unit, which the first of these says, rounded operands have its panels.
    const PanelKernels* const roundedTiles = context_->bfloat16Tiles != nullptr ? rounded().others : nullptr;
    return {*context_->table, context_->exact, context_->bfloat16Tiles, context_->floatTiles, roundedTiles};
  }

  // One call for each argument, in their order; an array takes its offset along. An integer out of range comes back
  // as 0 and is reported by done().
  bool flag(const char* name) {
    bool result = false;
    const napi_value value = values_[next_++];
    if (napi_get_value_bool(env_, value, &result) != napi_ok) throwType(name, "", "a boolean", value);
    return result;
  }
  double real(const char* name) { return number(name, ""); }
  int64_t size(const char* name) { return integerOf(name, "", 0, kEndOfSizes); }  // [0, 2^53)
  // [low, end), end at most 2^53
  int64_t integer(const char* name, double low, double end) { return integerOf(name, "", low, end); }
  Floats floats(const char* name) { return slice<float>(name, false); }
  Floats floatsOrNull(const char* name) { return slice<float>(name, true); }
  Ints ints(const char* name) { return slice<int32_t>(name, false); }
  Bytes bytes(const char* name) { return slice<uint8_t>(name, false); }
  Floats floatsWithoutOffset(const char* name) { return array<float>(name, false); }
  Bytes bytesOf(const char* name, napi_value value) const { return arrayOf<uint8_t>(name, false, value); }
  napi_value list(const char* name, uint32_t* length);
  const StoredHandle& stored(const char* name);
  // A name that is none comes back as kStorageTypes and is reported by done(), as integers are.
  StorageType storageType(const char* name);

  // Call it after all arguments are read: it throws for the first integer out of range.
  void done() const {
    if (badInteger_.name != nullptr) throwBadInteger();
    if (badType_[0] != 0) throwBadType();
  }

  void requireLd(const char* name, int64_t ld, double cols) const {
    if (static_cast<double>(ld) < cols) throwLd(name, ld, cols);
  }
  [[noreturn]] void throwTooShort(const char* name, double length, int64_t offset, double needed) const;
  void requireIndices(const Ints& slice, int64_t count, int64_t bound) const;  // each in [0, bound)
  void requireIndicesOr(int32_t except, const Ints& slice, int64_t count, int64_t bound) const;
  void requireWholeBlocks(StorageType type, int64_t cols, const char* name = "cols") const;
  void requireNonNegative(const Ints& slice, int64_t count) const;
  void requireRowStarts(const Ints& slice, int64_t groups) const;  // groups + 1 of them, >= 0, non-decreasing

  [[noreturn]] void throwGone(int64_t index) const;
  [[noreturn]] void throwRange(const std::string& message) const;  // "<kernel>: <message>"
  std::string text(double value) const;                            // as JavaScript prints it

 private:
  static constexpr size_t kMaxArguments = 40;
  static constexpr double kEndOfSizes = 9007199254740992.0;  // 2^53
  // These are inline, so that a call only pays for Node-API; failures go out of line.
  template <class T>
  Slice<T> array(const char* name, bool orNull) {
    return arrayOf<T>(name, orNull, values_[next_++]);
  }
  template <class T>
  Slice<T> arrayOf(const char* name, bool orNull, napi_value value) const {
    napi_typedarray_type type = napi_int8_array;
    size_t length = 0;
    void* data = nullptr;
    const napi_status status = napi_get_typedarray_info(env_, value, &type, &length, &data, nullptr, nullptr);
    if (status != napi_ok || type != ArrayType<T>::kType) return nullOr<T>(name, orNull, value);
    return {name, static_cast<T*>(data), static_cast<double>(length), 0, false};
  }
  template <class T>
  Slice<T> slice(const char* name, bool orNull) {
    Slice<T> result = array<T>(name, orNull);
    result.offset = integerOf(name, "Offset", 0, kEndOfSizes);
    return result;
  }
  double number(const char* name, const char* suffix) {
    double result = 0;
    const napi_value value = values_[next_++];
    if (napi_get_value_double(env_, value, &result) != napi_ok) throwType(name, suffix, "a number", value);
    return result;
  }
  int64_t integerOf(const char* name, const char* suffix, double low, double end) {
    const double value = number(name, suffix);
    if (value >= low && value < end) {
      const auto whole = static_cast<int64_t>(value);  // end is at most 2^53
      if (static_cast<double>(whole) == value) return whole;
    }
    keepBadInteger(name, suffix, value, low, end);
    return 0;
  }

  // The slice of an allowed null; otherwise throws.
  template <class T>
  SGEMOE_COLD Slice<T> nullOr(const char* name, bool orNull, napi_value value) const;
  SGEMOE_COLD void keepBadInteger(const char* name, const char* suffix, double value, double low, double end);
  [[noreturn]] void throwType(const char* name, const char* suffix, const char* expected, napi_value value) const;
  [[noreturn]] void throwBadInteger() const;
  [[noreturn]] void throwBadType() const;
  [[noreturn]] void throwLd(const char* name, int64_t ld, double cols) const;
  [[noreturn]] void throwElement(const Ints& slice, int64_t i, const std::string& rule) const;

  struct BadInteger {
    const char* name = nullptr;
    const char* suffix = "";
    double value = 0, low = 0, end = 0;
  };

  napi_env env_;
  const char* kernel_;
  const Context* context_ = nullptr;
  size_t next_ = 0;
  napi_value values_[kMaxArguments];
  BadInteger badInteger_;
  char badType_[32] = "";  // the name of a storage type that isn't one
};

}  // namespace sgemoe
