// The functions that JavaScript calls, one for each line of kernels.def, and how a call reaches them.
#pragma once
#include <node_api.h>

#include <type_traits>

#include "args.h"

namespace sgemoe {

namespace entries {

// Converts a kernel's result for JavaScript: a number, or nothing.
template <class Result>
using Returned = std::conditional_t<std::is_void_v<Result>, void, double>;

// Each function checks its arguments in the words of kernels.ts and runs the kernel. enter() turns what it throws into a
// JavaScript error.
#define SGEMOE_KERNEL(result, name, parameters) Returned<result> name(Args& args);
#define SGEMOE_ENTRY(result, name) Returned<result> name(Args& args);
#define SGEMOE_OBJECT(result, name) napi_value name(Args& args, napi_env env);
#include "../kernels.def"

}  // namespace entries

struct Entry {
  const char* name;
  napi_callback call;
};

// Reads the arguments, runs the kernel, and turns what it throws into a JavaScript error.
napi_value enter(napi_env env, napi_callback_info info, const char* name, void (*kernel)(Args&));
napi_value enter(napi_env env, napi_callback_info info, const char* name, double (*kernel)(Args&));
napi_value enter(napi_env env, napi_callback_info info, const char* name, napi_value (*make)(Args&, napi_env));

}  // namespace sgemoe
