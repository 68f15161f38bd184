// The functions that JavaScript calls, one for each kernel of src/backend/kernels.ts.
#pragma once
#include <node_api.h>

#include <vector>

#include "args.h"

namespace sgemoe {

struct Entry {
  const char* name;
  napi_callback call;
};

void addMatmulEntries(std::vector<Entry>& entries);
void addRowEntries(std::vector<Entry>& entries);
void addAttentionEntries(std::vector<Entry>& entries);
void addMixtureEntries(std::vector<Entry>& entries);
void addOptimizerEntries(std::vector<Entry>& entries);

// Reads the arguments, runs the kernel, and turns what it throws into a JavaScript error.
napi_value enter(napi_env env, napi_callback_info info, const char* name, void (*kernel)(Args&));
napi_value enter(napi_env env, napi_callback_info info, const char* name, double (*kernel)(Args&));

// The entry of the function kernel(Args&), under its own name.
#define SGEMOE_ENTRY(kernel)                                               \
  ::sgemoe::Entry {                                                        \
    #kernel, [](napi_env env, napi_callback_info info) -> napi_value {     \
      return ::sgemoe::enter(env, info, #kernel, kernel);                  \
    }                                                                      \
  }

}  // namespace sgemoe
