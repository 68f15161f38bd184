#include "args.h"

#include <cstring>

#include "handles.h"

namespace sgemoe {
namespace {

const char* nameOf(napi_typedarray_type type) {
  static constexpr const char* kNames[] = {
      "Int8Array",   "Uint8Array",   "Uint8ClampedArray", "Int16Array",    "Uint16Array",    "Int32Array",
      "Uint32Array", "Float32Array", "Float64Array",      "BigInt64Array", "BigUint64Array",
  };
  const auto i = static_cast<size_t>(type);
  return i < sizeof kNames / sizeof kNames[0] ? kNames[i] : "another typed array";
}

// Describes what arrived: 'null', the kind of array, or the result of typeof.
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
  napi_get_cb_info(env, info, &count, values_, nullptr, &data);  // fills missing arguments with undefined
  context_ = static_cast<const Context*>(data);
}

// ---------------------------------------------------------------- reading

template <class T>
Slice<T> Args::nullOr(const char* name, bool orNull, napi_value value) const {
  napi_valuetype type = napi_undefined;
  if (orNull && napi_typeof(env_, value, &type) == napi_ok && type == napi_null) return {name, nullptr, 0, 0, true};
  throwType(name, "", orNull ? ArrayType<T>::kExpectedOrNull : ArrayType<T>::kExpected, value);
}

template Slice<float> Args::nullOr<float>(const char*, bool, napi_value) const;
template Slice<int32_t> Args::nullOr<int32_t>(const char*, bool, napi_value) const;
template Slice<uint8_t> Args::nullOr<uint8_t>(const char*, bool, napi_value) const;

#if !defined(__wasm__)
napi_value Args::list(const char* name, uint32_t* length) {
  const napi_value value = values_[next_++];
  if (napi_get_array_length(env_, value, length) != napi_ok) throwType(name, "", "an array", value);
  return value;
}
#endif

const StoredHandle& Args::stored(const char* name) {
  const napi_value value = values_[next_++];
  const StoredHandle* const handle = storedHandle(env_, value);
  if (handle == nullptr) throwType(name, "", "a StoredMatrices", value);
  return *handle;
}

StorageType Args::storageType(const char* name) {
  const napi_value value = values_[next_++];
  char text[sizeof badType_] = "";
  size_t length = 0;
  if (napi_get_value_string_utf8(env_, value, text, sizeof text, &length) != napi_ok) {
    throwType(name, "", "a string", value);
  }
  int type = 0;
  while (type < kStorageTypes && std::strcmp(kStorageLayouts[type].name, text) != 0) type++;
  if (type == kStorageTypes) {
    if (text[0] == 0) text[0] = ' ';  // an empty badType_ says that there is none
    std::memcpy(badType_, text, sizeof badType_);
    type = 0;
  }
  return static_cast<StorageType>(type);
}

void Args::keepBadInteger(const char* name, const char* suffix, double value, double low, double end) {
  if (badInteger_.name == nullptr) badInteger_ = {name, suffix, value, low, end};
}

// ---------------------------------------------------------------- checking

namespace {

// Bit 31 is set unless 0 <= value <= last, for a last below 2^31. Such bits are collected without a branch an index, so
// that the loops below take several indices at a time; the wrong index is searched for afterwards.
uint32_t outside(int32_t value, uint32_t last) {
  const auto bits = static_cast<uint32_t>(value);
  return bits | (last - bits);
}

uint32_t lastBelow(int64_t bound) { return static_cast<uint32_t>(bound <= INT32_MAX ? bound - 1 : INT32_MAX); }

}  // namespace

void Args::requireIndices(const Ints& slice, int64_t count, int64_t bound) const {
  const int32_t* indices = slice.begin();
  const uint32_t last = lastBelow(bound);
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; i++) bad |= outside(indices[i], last);
  if (bad >> 31 == 0) return;
  int64_t i = 0;
  while (outside(indices[i], last) >> 31 == 0) i++;
  throwElement(slice, i, "in [0, " + text(static_cast<double>(bound)) + ")");
}

void Args::requireIndicesOr(int32_t except, const Ints& slice, int64_t count, int64_t bound) const {
  const int32_t* indices = slice.begin();
  const uint32_t last = lastBelow(bound);
  const auto wrong = [=](int32_t index) { return index == except ? 0 : outside(index, last); };
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; i++) bad |= wrong(indices[i]);
  if (bad >> 31 == 0) return;
  int64_t i = 0;
  while (wrong(indices[i]) >> 31 == 0) i++;
  throwElement(slice, i, "in [0, " + text(static_cast<double>(bound)) + ")");
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

// ---------------------------------------------------------------- errors

void Args::throwBadInteger() const {
  const BadInteger& bad = badInteger_;
  const std::string range = bad.end == kEndOfSizes ? ">= 0" : "in [" + text(bad.low) + ", " + text(bad.end) + ")";
  throwRange(std::string(bad.name) + bad.suffix + " must be an integer " + range + ", got " + text(bad.value));
}

void Args::throwBadType() const {
  std::string names;
  for (const StorageLayout& layout : kStorageLayouts) names += (names.empty() ? "" : ", ") + std::string(layout.name);
  throwRange("type must be one of " + names + ", got '" + badType_ + "'");
}

void Args::requireWholeBlocks(StorageType type, int64_t cols, const char* name) const {
  const int64_t elements = layoutOf(type).elements;
  if (cols % elements == 0) return;
  throwRange(std::string(name) + " must be a multiple of " + std::to_string(elements) + ", got " +
             text(static_cast<double>(cols)));
}

void Args::throwLd(const char* name, int64_t ld, double cols) const {
  throwRange(std::string(name) + " must be >= " + text(cols) + ", got " + text(static_cast<double>(ld)));
}

std::string Args::text(double value) const {
  napi_value number, string;
  char buffer[64] = "";
  size_t length = 0;
  if (napi_create_double(env_, value, &number) == napi_ok && napi_coerce_to_string(env_, number, &string) == napi_ok) {
    napi_get_value_string_utf8(env_, string, buffer, sizeof buffer, &length);
  }
  return buffer;
}

void Args::throwRange(const std::string& message) const { raise({ArgumentError::range, kernel_ + (": " + message)}); }

void Args::throwGone(int64_t index) const {
  raise({ArgumentError::other, kernel_ + (": the bytes of matrix " + std::to_string(index) + " are gone")});
}

void Args::throwType(const char* name, const char* suffix, const char* expected, napi_value value) const {
  raise({ArgumentError::type, std::string(kernel_) + ": " + name + suffix + " must be " + expected + ", got " + describe(env_, value)});
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
