// Objects that JavaScript holds for kernels: matrices whose bytes stay where they are.
#pragma once
#include <node_api.h>

#include "args.h"

namespace sgemoe {

// What storedMatrices has made of this value; null for any other value. In the addon the object owns it (handles.cc), in
// WebAssembly JavaScript does (wasm/module.cc).
const StoredHandle* storedHandle(napi_env env, napi_value value);

}  // namespace sgemoe
