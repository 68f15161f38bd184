#include "args.h"

#include <cmath>

namespace sgemoe {
namespace {

constexpr double kEndOfSizes = 9007199254740992.0;  // 2^53

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

const char* nameOf(napi_typedarray_type type) {
  static constexpr const char* kNames[] = {
      "Int8Array",   "Uint8Array",   "Uint8ClampedArray", "Int16Array",    "Uint16Array",    "Int32Array",
      "Uint32Array", "Float32Array", "Float64Array",      "BigInt64Array", "BigUint64Array",
  };
  const auto i = static_cast<size_t>(type);
  return i < sizeof kNames / sizeof kNames[0] ? kNames[i] : "another typed array";
}

// What arrived, as 'null', the kind of array, or what typeof says.
const char* describe(napi_env env, napi_value value) {
  napi_typedarray_type arrayType;
  if (napi_get_typedarray_info(env, value, &arrayType, nullptr, nullptr, nullptr, nullptr) == napi_ok) {
    return nameOf(arrayType);
  }
  bool isDataView = false;
  if (napi_is_dataview(env, value, &isDataView) == napi_ok && isDataView) return "DataView";
  static constexpr const char* kTypes[] = {"undefined", "null",   "boolean",  "number", "string",
                                           "symbol",    "object", "function", "object", "bigint"};
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  const auto i = static_cast<size_t>(type);
  return i < sizeof kTypes / sizeof kTypes[0] ? kTypes[i] : "object";
}

}  // namespace

Args::Args(napi_env env, napi_callback_info info, const char* kernel) : env_(env), kernel_(kernel) {
  size_t count = kMaxArguments;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, values_, nullptr, &data);  // fills what is missing with undefined
  context_ = static_cast<const Context*>(data);
}

// ---------------------------------------------------------------- reading

bool Args::flag(const char* name) {
  bool result = false;
  const napi_value value = values_[next_++];
  if (napi_get_value_bool(env_, value, &result) != napi_ok) throwType(name, "", "a boolean", value);
  return result;
}

double Args::number(const char* name, const char* suffix) {
  double result = 0;
  const napi_value value = values_[next_++];
  if (napi_get_value_double(env_, value, &result) != napi_ok) throwType(name, suffix, "a number", value);
  return result;
}

int64_t Args::integerOf(const char* name, const char* suffix, double low, double end) {
  const double value = number(name, suffix);
  if (value >= low && value < end && value == std::floor(value)) return static_cast<int64_t>(value);
  if (badInteger_.name == nullptr) badInteger_ = {name, suffix, value, low, end};
  return 0;
}

int64_t Args::size(const char* name) { return integerOf(name, "", 0, kEndOfSizes); }

int64_t Args::integer(const char* name, double low, double end) { return integerOf(name, "", low, end); }

template <class T>
Slice<T> Args::array(const char* name, bool orNull) {
  const napi_value value = values_[next_++];
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  const napi_status status = napi_get_typedarray_info(env_, value, &type, &length, &data, nullptr, nullptr);
  if (status == napi_ok && type == ArrayType<T>::kType) {
    return {name, static_cast<T*>(data), static_cast<double>(length), 0, false};
  }
  napi_valuetype valueType = napi_undefined;
  if (orNull && napi_typeof(env_, value, &valueType) == napi_ok && valueType == napi_null) {
    return {name, nullptr, 0, 0, true};
  }
  throwType(name, "", orNull ? ArrayType<T>::kExpectedOrNull : ArrayType<T>::kExpected, value);
}

template <class T>
Slice<T> Args::slice(const char* name, bool orNull) {
  Slice<T> result = array<T>(name, orNull);
  result.offset = integerOf(name, "Offset", 0, kEndOfSizes);
  return result;
}

template Slice<float> Args::array<float>(const char*, bool);
template Slice<float> Args::slice<float>(const char*, bool);
template Slice<int32_t> Args::slice<int32_t>(const char*, bool);

// ---------------------------------------------------------------- checking

void Args::done() const {
  const BadInteger& bad = badInteger_;
  if (bad.name == nullptr) return;
  const std::string range = bad.end == kEndOfSizes ? ">= 0" : "in [" + text(bad.low) + ", " + text(bad.end) + ")";
  throwRange(std::string(bad.name) + bad.suffix + " must be an integer " + range + ", got " + text(bad.value));
}

void Args::requireLd(const char* name, int64_t ld, double cols) const {
  if (static_cast<double>(ld) >= cols) return;
  throwRange(std::string(name) + " must be >= " + text(cols) + ", got " + text(static_cast<double>(ld)));
}

void Args::requireIndices(const Ints& slice, int64_t count, int64_t bound) const {
  const int32_t* indices = slice.begin();
  for (int64_t i = 0; i < count; i++) {
    if (indices[i] >= 0 && indices[i] < bound) continue;
    throwElement(slice, i, "in [0, " + text(static_cast<double>(bound)) + ")");
  }
}

void Args::requireIndicesOr(int32_t except, const Ints& slice, int64_t count, int64_t bound) const {
  const int32_t* indices = slice.begin();
  for (int64_t i = 0; i < count; i++) {
    if ((indices[i] >= 0 && indices[i] < bound) || indices[i] == except) continue;
    throwElement(slice, i, "in [0, " + text(static_cast<double>(bound)) + ")");
  }
}

void Args::requireNonNegative(const Ints& slice, int64_t count) const {
  const int32_t* values = slice.begin();
  for (int64_t i = 0; i < count; i++) {
    if (values[i] < 0) throwElement(slice, i, ">= 0");
  }
}

void Args::requireRowStarts(const Ints& slice, int64_t groups) const {
  const int32_t* starts = slice.begin();
  int32_t least = 0;
  for (int64_t g = 0; g <= groups; g++) {
    if (starts[g] < least) throwElement(slice, g, ">= " + std::to_string(least));
    least = starts[g];
  }
}

// ---------------------------------------------------------------- complaining

std::string Args::text(double value) const {
  napi_value number, string;
  char buffer[64] = "";
  size_t length = 0;
  if (napi_create_double(env_, value, &number) == napi_ok && napi_coerce_to_string(env_, number, &string) == napi_ok) {
    napi_get_value_string_utf8(env_, string, buffer, sizeof buffer, &length);
  }
  return buffer;
}

void Args::throwRange(const std::string& message) const { throw ArgumentError{false, kernel_ + (": " + message)}; }

void Args::throwType(const char* name, const char* suffix, const char* expected, napi_value value) const {
  throw ArgumentError{true, std::string(kernel_) + ": " + name + suffix + " must be " + expected + ", got " +
                                describe(env_, value)};
}

void Args::throwTooShort(const char* name, double length, int64_t offset, double needed) const {
  throwRange(std::string(name) + " is too short: needs " + text(needed) + " elements from offset " +
             text(static_cast<double>(offset)) + ", has " + text(length));
}

void Args::throwElement(const Ints& slice, int64_t i, const std::string& rule) const {
  throwRange(std::string(slice.name) + "[" + std::to_string(i) + "] is " + std::to_string(slice.begin()[i]) +
             ", must be " + rule);
}

}  // namespace sgemoe
