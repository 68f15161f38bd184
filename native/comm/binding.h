// The communication between processes, for JavaScript.
#pragma once
#include <node_api.h>

namespace sgemoe {

// openRanks(path, timeoutMs, onProgress): src/backend/native.ts tells what it returns.
napi_value openRanks(napi_env env, napi_callback_info info);

// joinRanks(): the same object for another thread, once a thread has opened them.
napi_value joinRanks(napi_env env, napi_callback_info info);

}  // namespace sgemoe
