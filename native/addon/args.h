// Reads and checks the arguments of a kernel call, in the order and words of src/backend/kernels.ts: every type while
// reading, then integers, leading dimensions, lengths, contents. Failures are thrown as ArgumentError, which becomes
// a JavaScript error where the call entered (entries.h).
#pragma once
#include <node_api.h>

#include <cstdint>
#include <string>

#include "../gemm.h"
#include "../kernels/kernels.h"

namespace sgemoe {

// What a set of kernel functions computes with. Never freed: the functions may outlive everything else.
struct Context {
  const KernelTable* table;
  Gemm gemm;
  bool packs;  // whether weights may be packed for the built-in kernel: not where a library must do every matmul
};

struct ArgumentError {
  bool isTypeError;  // else a RangeError
  std::string message;
};

// An array argument and the offset argument behind it.
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

// Elements from the first to the last of a [rows, cols] matrix whose rows are ld apart. Sizes are doubles, as in
// JavaScript: a product beyond 2^53 is inexact, but still larger than any array, so comparisons decide right.
inline double extent(double rows, double cols, double ld) {
  return rows == 0 || cols == 0 ? 0 : (rows - 1) * ld + cols;
}

// The same for `count` things of `one` elements each, `stride` apart.
inline double batchExtent(double count, double one, double stride) {
  return count == 0 || one == 0 ? 0 : (count - 1) * stride + one;
}

class Args {
 public:
  Args(napi_env env, napi_callback_info info, const char* kernel);

  const KernelTable& kernels() const { return *context_->table; }
  const Gemm& gemm() const { return context_->gemm; }
  bool packs() const { return context_->packs; }

  // One call for each argument, in their order; an array takes its offset along. An integer out of range comes back
  // as 0 and is reported by done().
  bool flag(const char* name);
  double real(const char* name) { return number(name, ""); }
  int64_t size(const char* name);                             // [0, 2^53)
  int64_t integer(const char* name, double low, double end);  // [low, end)
  Floats floats(const char* name) { return slice<float>(name, false); }
  Floats floatsOrNull(const char* name) { return slice<float>(name, true); }
  Ints ints(const char* name) { return slice<int32_t>(name, false); }
  Floats floatsWithoutOffset(const char* name) { return array<float>(name, false); }

  // When all are read: throws for the first integer out of range.
  void done() const;

  void requireLd(const char* name, int64_t ld, double cols) const;
  template <class T>
  void requireLength(const Slice<T>& slice, double needed) const {
    if (slice.isNull || static_cast<double>(slice.offset) + needed <= slice.length) return;
    throwTooShort(slice.name, slice.length, slice.offset, needed);
  }
  void requireIndices(const Ints& slice, int64_t count, int64_t bound) const;  // each in [0, bound)
  void requireIndicesOr(int32_t except, const Ints& slice, int64_t count, int64_t bound) const;
  void requireNonNegative(const Ints& slice, int64_t count) const;
  void requireRowStarts(const Ints& slice, int64_t groups) const;  // groups + 1 of them, >= 0, non-decreasing

  [[noreturn]] void throwRange(const std::string& message) const;  // "<kernel>: <message>"
  std::string text(double value) const;                            // as JavaScript prints it

 private:
  template <class T>
  Slice<T> array(const char* name, bool orNull);
  template <class T>
  Slice<T> slice(const char* name, bool orNull);
  double number(const char* name, const char* suffix);
  int64_t integerOf(const char* name, const char* suffix, double low, double end);
  [[noreturn]] void throwType(const char* name, const char* suffix, const char* expected, napi_value value) const;
  [[noreturn]] void throwTooShort(const char* name, double length, int64_t offset, double needed) const;
  [[noreturn]] void throwElement(const Ints& slice, int64_t i, const std::string& rule) const;

  static constexpr size_t kMaxArguments = 40;

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
};

}  // namespace sgemoe
