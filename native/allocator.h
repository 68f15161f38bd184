// Settings of the C library's allocator, for the whole process.
#pragma once

namespace sgemoe {

// Sets glibc's limits of kept memory to the values that glibc itself would reach, since it raises both when a program frees
// large blocks. Otherwise results that a garbage collection frees go back to the system, and the next result costs a page
// fault per 4 KB: 110 us instead of 16 for 256 KB, in a virtual machine. It changes nothing if the user's environment sets
// these limits, or with another C library.
void keepFreedMemory();

}  // namespace sgemoe
