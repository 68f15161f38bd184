#include "handles.h"

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "entries.h"

// The only object that the addon makes. It is wrapped: JavaScript sees type, rows, cols and count, which nobody can change.
namespace sgemoe {
namespace {

// Random numbers by which values that other addons wrapped are told apart.
constexpr napi_type_tag kTag = {0x6f0c3a51d2be4e07, 0x9be1d8f5a4c27630};

class Wrapped final : public StoredHandle {
 public:
  std::vector<const uint8_t*> parts;
  std::vector<int32_t> bufferOf;      // of each part; -1 for shared memory, which nobody can take away
  std::vector<napi_ref> buffers;      // the distinct ones; strong, so that the bytes live as long as this
  std::vector<napi_ref> sharedParts;  // one part of each shared buffer
  napi_env env = nullptr;

  bool isGone(int64_t index) const override {
    const int32_t buffer = bufferOf[static_cast<size_t>(index)];
    if (buffer < 0) return false;
    napi_value value = nullptr;
    bool detached = true;
    if (napi_get_reference_value(env, buffers[static_cast<size_t>(buffer)], &value) != napi_ok) return true;
    return napi_is_detached_arraybuffer(env, value, &detached) != napi_ok || detached;
  }
};

void finalize(napi_env env, void* data, void*) {
  const std::unique_ptr<Wrapped> wrapped(static_cast<Wrapped*>(data));
  for (const napi_ref ref : wrapped->buffers) napi_delete_reference(env, ref);
  for (const napi_ref ref : wrapped->sharedParts) napi_delete_reference(env, ref);
}

void require(napi_status status) {
  if (status != napi_ok) throw std::bad_alloc();
}

// Keeps the buffer of a part alive, once for all parts in it.
void keep(napi_env env, Wrapped* wrapped, napi_value part, napi_value buffer) {
  bool isOwn = false;
  require(napi_is_arraybuffer(env, buffer, &isOwn));
  auto& refs = isOwn ? wrapped->buffers : wrapped->sharedParts;
  if (!refs.empty()) {  // most often it is the buffer of the part before
    napi_value last = nullptr;
    bool same = false;
    require(napi_get_reference_value(env, refs.back(), &last));
    require(napi_strict_equals(env, last, isOwn ? buffer : part, &same));
    if (same) return wrapped->bufferOf.push_back(isOwn ? static_cast<int32_t>(refs.size()) - 1 : -1);
  }
  napi_ref ref = nullptr;
  require(napi_create_reference(env, isOwn ? buffer : part, 1, &ref));
  refs.push_back(ref);
  wrapped->bufferOf.push_back(isOwn ? static_cast<int32_t>(refs.size()) - 1 : -1);
}

void define(napi_env env, napi_value object, const char* name, napi_value value) {
  const napi_property_descriptor property = {name,    nullptr, nullptr,         nullptr,
                                             nullptr, value,   napi_enumerable, nullptr};
  require(napi_define_properties(env, object, 1, &property));
}

void defineNumber(napi_env env, napi_value object, const char* name, int64_t number) {
  napi_value value = nullptr;
  require(napi_create_double(env, static_cast<double>(number), &value));
  define(env, object, name, value);
}

napi_value objectOf(napi_env env, std::unique_ptr<Wrapped> wrapped) {
  const StoredMatrices& matrices = wrapped->matrices;
  napi_value object = nullptr, type = nullptr;
  require(napi_create_object(env, &object));
  require(napi_create_string_utf8(env, layoutOf(matrices.type).name, NAPI_AUTO_LENGTH, &type));
  define(env, object, "type", type);
  defineNumber(env, object, "rows", matrices.rows);
  defineNumber(env, object, "cols", matrices.cols);
  defineNumber(env, object, "count", matrices.count);
  require(napi_type_tag_object(env, object, &kTag));
  require(napi_wrap(env, object, wrapped.get(), finalize, nullptr, nullptr));
  wrapped.release();
  return object;
}

// Keeps the parts alive. Each must hold at least `bytes`.
void takeParts(Args& args, napi_env env, napi_value list, double bytes, Wrapped* wrapped) {
  for (uint32_t i = 0; i < wrapped->matrices.count; i++) {
    napi_value part = nullptr, buffer = nullptr;
    require(napi_get_element(env, list, i, &part));
    const std::string name = "parts[" + std::to_string(i) + "]";
    const Bytes slice = args.bytesOf(name.c_str(), part);
    if (slice.length < bytes) {
      args.throwRange(name + " is too short: needs " + args.text(bytes) + " bytes, has " + args.text(slice.length));
    }
    require(napi_get_typedarray_info(env, part, nullptr, nullptr, nullptr, &buffer, nullptr));
    keep(env, wrapped, part, buffer);
    wrapped->parts.push_back(slice.data);
  }
}

}  // namespace

const StoredHandle* storedHandle(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  bool isOurs = false;
  void* data = nullptr;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object) return nullptr;
  if (napi_check_object_type_tag(env, value, &kTag, &isOurs) != napi_ok || !isOurs) return nullptr;
  return napi_unwrap(env, value, &data) == napi_ok ? static_cast<Wrapped*>(data) : nullptr;
}

napi_value entries::storedMatrices(Args& args, napi_env env) {
  const StorageType type = args.storageType("type");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  uint32_t count = 0;
  const napi_value list = args.list("parts", &count);
  for (uint32_t i = 0; i < count; i++) {  // types first
    napi_value part = nullptr;
    require(napi_get_element(env, list, i, &part));
    args.bytesOf(("parts[" + std::to_string(i) + "]").c_str(), part);
  }
  args.done();
  args.requireWholeBlocks(type, cols);
  const StorageLayout& layout = layoutOf(type);
  const double rowBytes = static_cast<double>(cols / layout.elements) * static_cast<double>(layout.bytes);
  const double bytes = static_cast<double>(rows) * rowBytes;
  auto wrapped = std::make_unique<Wrapped>();
  wrapped->env = env;
  wrapped->matrices = {type, rows, cols, count, static_cast<int64_t>(rowBytes), nullptr};
  try {
    takeParts(args, env, list, bytes, wrapped.get());
  } catch (...) {
    finalize(env, wrapped.release(), nullptr);
    throw;
  }
  wrapped->matrices.parts = wrapped->parts.data();
  return objectOf(env, std::move(wrapped));
}

}  // namespace sgemoe
