#include "mapping.h"

#include <memory>
#include <string>

#include "huge_pages.h"
#include "mapped_file.h"

namespace sgemoe {

namespace {

using Owner = std::shared_ptr<MappedFile>;

// Marks the handles of mapFile, so that mappingState takes no other external value.
constexpr napi_type_tag kMapping = {0x8d1f6a4e52b94c07, 0xa3c7709b1e5d42f6};

void release(napi_env, void*, void* owner) { delete static_cast<Owner*>(owner); }

// An ArrayBuffer over a part of the mapping, which owns a share of it; an empty value where buffers may not lie outside
// V8's heap.
Napi::Value bufferOver(Napi::Env env, const Owner& file, uint64_t offset, uint64_t bytes) {
  // An empty buffer needs no memory.
  if (bytes == 0) return Napi::ArrayBuffer::New(env, 0);
  auto owner = std::make_unique<Owner>(file);
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, file->data() + offset, static_cast<size_t>(bytes),
                                                              release, owner.get(), &buffer);
  if (status == napi_no_external_buffers_allowed) return Napi::Value();
  if (status != napi_ok) throw Napi::Error::New(env);
  owner.release();
  return Napi::Value(env, buffer);
}

bool isInside(double offset, double bytes, uint64_t size) {
  const auto end = static_cast<double>(size);  // exact: no file has 2^53 bytes
  const auto whole = [&](double value) { return value >= 0 && value <= end && value == static_cast<double>(static_cast<uint64_t>(value)); };
  return whole(offset) && whole(bytes) && offset + bytes <= end;
}

// Calls use(number, offset, bytes) for pairs of offset and bytes until it returns false.
template <class Use>
void forRanges(Napi::Env env, const Napi::Float64Array& pairs, uint64_t size, const Use& use) {
  for (size_t i = 0; i + 1 < pairs.ElementLength(); i += 2) {
    const double offset = pairs[i], bytes = pairs[i + 1];
    if (!isInside(offset, bytes, size)) {
      throw Napi::RangeError::New(env, "mapFile: range " + std::to_string(i / 2) + " must lie in the file of " +
                                           std::to_string(size) + " bytes");
    }
    if (!use(static_cast<uint32_t>(i / 2), static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes))) return;
  }
}

bool isFloat64Array(const Napi::Value& value) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float64_array;
}

}  // namespace

Napi::Value mapFile(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  if (!call[0].IsString()) throw Napi::TypeError::New(env, "mapFile: path must be a string");
  if (!isFloat64Array(call[1])) throw Napi::TypeError::New(env, "mapFile: ranges must be a Float64Array");
  if (!isFloat64Array(call[2])) throw Napi::TypeError::New(env, "mapFile: regions must be a Float64Array");
  try {
    std::string reason;
    const Owner file = MappedFile::open(call[0].As<Napi::String>().Utf8Value(), &reason);
    if (file == nullptr) throw Napi::Error::New(env, reason);
    Napi::Array result = Napi::Array::New(env);
    auto handle = Napi::External<Owner>::New(env, new Owner(file), [](Napi::Env, Owner* owner) { delete owner; });
    handle.TypeTag(&kMapping);
    result[0u] = handle;
    result[1u] = Napi::Number::New(env, static_cast<double>(file->size()));
    bool allowed = true;
    forRanges(env, call[1].As<Napi::Float64Array>(), file->size(), [&](uint32_t i, uint64_t offset, uint64_t bytes) {
      const Napi::Value buffer = bufferOver(env, file, offset, bytes);
      allowed = !buffer.IsEmpty();
      if (allowed) result[2 + i] = buffer;
      return allowed;
    });
    if (!allowed) return env.Null();
    // What isn't cached is then read by some MB, and mapped in large pages where the file system has them (ext4, XFS, Btrfs of
    // newer kernels).
    forRanges(env, call[2].As<Napi::Float64Array>(), file->size(), [&](uint32_t, uint64_t offset, uint64_t bytes) {
      adviseHugePages(file->data() + offset, static_cast<size_t>(bytes));
      return true;
    });
    return result;
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(env, "mapFile: out of memory");
  }
}

Napi::Value mappingState(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  if (!call[0].IsExternal() || !call[0].As<Napi::External<Owner>>().CheckTypeTag(&kMapping)) {
    throw Napi::TypeError::New(env, "mappingState: handle must come from mapFile");
  }
  const Owner& file = *call[0].As<Napi::External<Owner>>().Data();
  return Napi::Number::New(env, static_cast<double>(static_cast<int>(file->state())));
}

}  // namespace sgemoe
