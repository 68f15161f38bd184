// Large pages for large buffers: they save page faults at first touch and misses of the address translation.
#pragma once
#include <cstddef>

namespace sgemoe {

// Asks the operating system to back [begin, begin + bytes) with large pages, where it makes them on demand
// (Linux, transparent_hugepage = madvise or always) and the buffer is long enough for some to fit. Pages that were
// touched before stay as they are. A hint: failures are ignored.
void adviseHugePages(void* begin, std::size_t bytes);

}  // namespace sgemoe
