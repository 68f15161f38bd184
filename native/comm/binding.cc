// Plain Node-API, since the C++ wrapper's accessors would be half of this folder's code. src/backend/collectives/mpi.ts makes all
// calls and has checked what it passes.
#include "binding.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "mpi.h"
#include "ranks.h"

namespace sgemoe {
namespace {

// Calls JavaScript from the communication thread, until the environment ends.
class Bell {
 public:
  Bell(napi_env env, napi_value listener) {
    napi_value name = nullptr;
    napi_create_string_utf8(env, "sgemoe ranks", NAPI_AUTO_LENGTH, &name);
    napi_create_threadsafe_function(env, listener, nullptr, name, 0, 1, nullptr, nullptr, nullptr, nullptr, &function_);
    napi_unref_threadsafe_function(env, function_);
    napi_add_env_cleanup_hook(env, [](void* bell) { static_cast<Bell*>(bell)->mute(); }, this);
  }

  void ring() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (function_ != nullptr && isHeard_) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
  }

  // Whether JavaScript wants to be called; the process stays alive meanwhile.
  void setHeard(napi_env env, bool isHeard) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (function_ == nullptr || isHeard == isHeard_) return;
    isHeard_ = isHeard;
    (isHeard ? napi_ref_threadsafe_function : napi_unref_threadsafe_function)(env, function_);
  }

  void mute() {
    std::lock_guard<std::mutex> lock(mutex_);
    function_ = nullptr;
  }

 private:
  std::mutex mutex_;
  napi_threadsafe_function function_ = nullptr;
  bool isHeard_ = false;
};

// One for the process, never destroyed: the thread may outlive everything.
Bell* bell = nullptr;
Ranks* ranks = nullptr;
std::atomic<int> exitCode{0};

void ringBell() { bell->ring(); }

// Ends the run with a process that ends without having closed it: some launchers would take it for a success.
void atProcessExit() {
  bell->mute();
  ranks->endProcess(exitCode);
}

// ---------------------------------------------------------------- values

struct Call {
  napi_env env;
  napi_value values[6] = {};

  Call(napi_env env, napi_callback_info info) : env(env) {
    size_t count = 6;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  double number(int i) const {
    double value = 0;
    napi_get_value_double(env, values[i], &value);
    return value;
  }
  bool boolean(int i) const {
    bool value = false;
    napi_get_value_bool(env, values[i], &value);
    return value;
  }
  std::string text(int i) const {
    size_t length = 0;
    napi_get_value_string_utf8(env, values[i], nullptr, 0, &length);
    std::string value(length, '\0');
    napi_get_value_string_utf8(env, values[i], &value[0], length + 1, &length);
    return value;
  }
  // The memory of an array of Uint8Arrays.
  std::vector<Part> parts(int i) const {
    uint32_t length = 0;
    napi_get_array_length(env, values[i], &length);
    std::vector<Part> parts(length);
    for (uint32_t r = 0; r < length; r++) {
      napi_value bytes = nullptr;
      void* data = nullptr;
      napi_get_element(env, values[i], r, &bytes);
      napi_get_typedarray_info(env, bytes, nullptr, &parts[r].bytes, &data, nullptr, nullptr);
      parts[r].data = static_cast<uint8_t*>(data);
    }
    return parts;
  }
};

napi_value numberValue(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

void set(napi_env env, napi_value object, const char* name, double number) {
  napi_set_named_property(env, object, name, numberValue(env, number));
}

void set(napi_env env, napi_value object, const char* name, const char* text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
  napi_set_named_property(env, object, name, value);
}

// ---------------------------------------------------------------- functions

napi_value post(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  Exchange exchange{static_cast<int>(call.number(0)),
                    static_cast<int>(call.number(1)),
                    static_cast<Sum>(static_cast<int>(call.number(2))),
                    call.boolean(3),
                    call.parts(4),
                    call.parts(5)};
  return numberValue(env, static_cast<double>(ranks->post(std::move(exchange))));
}

napi_value state(napi_env env, napi_callback_info info) {
  return numberValue(env, ranks->state(static_cast<uint64_t>(Call(env, info).number(0))));
}

napi_value wait(napi_env env, napi_callback_info info) {
  return numberValue(env, ranks->wait(static_cast<uint64_t>(Call(env, info).number(0))));
}

napi_value listen(napi_env env, napi_callback_info info) {
  bell->setHeard(env, Call(env, info).boolean(0));
  return nullptr;
}

napi_value failure(napi_env env, napi_callback_info) {
  static const char* const kKinds[] = {"none", "mismatch", "aborted", "timeout", "library"};
  const Failure failure = ranks->failure();
  napi_value object = nullptr, heads = nullptr;
  napi_create_object(env, &object);
  set(env, object, "kind", kKinds[failure.kind]);
  set(env, object, "rank", failure.rank);
  set(env, object, "text", failure.text.c_str());
  napi_create_array(env, &heads);
  for (uint32_t i = 0; i < failure.heads.size(); i++) napi_set_element(env, heads, i, numberValue(env, failure.heads[i]));
  napi_set_named_property(env, object, "heads", heads);
  return object;
}

napi_value abortRun(napi_env env, napi_callback_info info) {
  ranks->abort(Call(env, info).text(0));
  return nullptr;
}

napi_value setExitCode(napi_env env, napi_callback_info info) {
  exitCode = static_cast<int>(Call(env, info).number(0));
  return nullptr;
}

napi_value describe(napi_env env) {
  static const struct {
    const char* name;
    napi_callback call;
  } kFunctions[] = {{"post", post},       {"state", state},    {"wait", wait},
                    {"listen", listen},   {"failure", failure}, {"abort", abortRun},
                    {"setExitCode", setExitCode}};
  napi_value object = nullptr;
  napi_create_object(env, &object);
  const MpiWorld& world = ranks->world();
  set(env, object, "rank", world.rank);
  set(env, object, "size", world.size);
  set(env, object, "localRank", world.localRank);
  set(env, object, "localSize", world.localSize);
  set(env, object, "abi", ranks->mpi().abi);
  set(env, object, "version", ranks->mpi().version.c_str());
  set(env, object, "path", ranks->mpi().path.c_str());
  for (const auto& each : kFunctions) {
    napi_value function = nullptr;
    napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.call, nullptr, &function);
    napi_set_named_property(env, object, each.name, function);
  }
  return object;
}

}  // namespace

napi_value joinRanks(napi_env env, napi_callback_info) {
  if (ranks != nullptr) return describe(env);
  napi_throw_error(env, nullptr, "MPI was not started in this process");
  return nullptr;
}

napi_value openRanks(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  std::string reason = "MPI can be started once in a process";
  std::unique_ptr<Mpi> mpi = ranks == nullptr ? openMpi(call.text(0), &reason) : nullptr;
  if (mpi != nullptr) {
    bell = new Bell(env, call.values[2]);
    ranks = new Ranks(std::move(mpi), call.number(1), ringBell);
    if (ranks->start(&reason)) {
      std::atexit(atProcessExit);
      return describe(env);
    }
  }
  napi_throw_error(env, nullptr, reason.c_str());
  return nullptr;
}

}  // namespace sgemoe
