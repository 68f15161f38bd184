// The part of Node-API that reading arguments takes (addon/args.h), over arguments that JavaScript has written into this
// memory: addon and WebAssembly compile the same checks (addon/). A build of WebAssembly takes this file for Node's header.
#pragma once
#include <cstddef>

enum napi_status { napi_ok, napi_invalid_arg };

enum napi_valuetype {
  napi_undefined, napi_null, napi_boolean, napi_number, napi_string,
  napi_symbol, napi_object, napi_function, napi_external, napi_bigint,
};

enum napi_typedarray_type {
  napi_int8_array, napi_uint8_array, napi_uint8_clamped_array, napi_int16_array, napi_uint16_array, napi_int32_array,
  napi_uint32_array, napi_float32_array, napi_float64_array, napi_bigint64_array, napi_biguint64_array,
};

// One argument, as src/backend/wasm/arguments.ts writes it.
struct SgemoeArgument {
  static constexpr int kTypedArray = 16;  // kinds from here on: this plus napi_typedarray_type
  static constexpr int kDataView = 32;
  double kind;    // a napi_valuetype, or one of the above
  double value;   // number; 0 or 1; address of the first element
  double length;  // elements
};

struct SgemoeCall {
  SgemoeArgument* arguments;
  size_t count;
};

using napi_env = void*;
using napi_value = SgemoeArgument*;
using napi_callback_info = const SgemoeCall*;
using napi_callback = napi_value (*)(napi_env, napi_callback_info);

napi_status napi_get_cb_info(napi_env, napi_callback_info info, size_t* count, napi_value* values, napi_value*, void** data);
napi_status napi_create_double(napi_env, double number, napi_value* result);
napi_status napi_coerce_to_string(napi_env, napi_value value, napi_value* result);
napi_status napi_get_value_string_utf8(napi_env, napi_value value, char* text, size_t bytes, size_t* length);

inline napi_status napi_typeof(napi_env, napi_value value, napi_valuetype* result) {
  *result = value->kind < SgemoeArgument::kTypedArray ? static_cast<napi_valuetype>(value->kind) : napi_object;
  return napi_ok;
}

inline napi_status napi_get_value_bool(napi_env, napi_value value, bool* result) {
  if (value->kind != napi_boolean) return napi_invalid_arg;
  *result = value->value != 0;
  return napi_ok;
}

inline napi_status napi_get_value_double(napi_env, napi_value value, double* result) {
  if (value->kind != napi_number) return napi_invalid_arg;
  *result = value->value;
  return napi_ok;
}

inline napi_status napi_is_dataview(napi_env, napi_value value, bool* result) {
  *result = value->kind == SgemoeArgument::kDataView;
  return napi_ok;
}

inline napi_status napi_get_typedarray_info(napi_env, napi_value value, napi_typedarray_type* type, size_t* length,
                                            void** data, napi_value*, size_t*) {
  if (value->kind < SgemoeArgument::kTypedArray || value->kind >= SgemoeArgument::kDataView) return napi_invalid_arg;
  *type = static_cast<napi_typedarray_type>(static_cast<int>(value->kind) - SgemoeArgument::kTypedArray);
  if (length != nullptr) *length = static_cast<size_t>(value->length);
  if (data != nullptr) *data = reinterpret_cast<void*>(static_cast<size_t>(value->value));
  return napi_ok;
}
