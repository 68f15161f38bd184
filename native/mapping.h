// mapFile and mappingState for JavaScript.
#pragma once
#include <napi.h>

namespace sgemoe {

// mapFile(path, ranges, regions): ranges is a Float64Array of pairs offset, bytes. Returns [handle, size, ...ArrayBuffers], one for
// each range; regions are such pairs, too, for which Linux is asked for large pages. Null where this host of V8 allows no buffers outside its heap. Throws an Error if the file can't be mapped
// and a RangeError for a range outside it. The mapping ends when the handle and the last buffer are collected.
Napi::Value mapFile(const Napi::CallbackInfo& call);

// mappingState(handle): 0 whole, 1 a page could not be read, 2 the file changed.
Napi::Value mappingState(const Napi::CallbackInfo& call);

}  // namespace sgemoe
