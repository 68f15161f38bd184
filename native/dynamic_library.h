// Opens shared libraries at run time, on every system.
#pragma once
#include <string>

namespace sgemoe {

// Whether anything in this process has opened that library already.
bool isLibraryOpen(const std::string& path);

// Opens a library. Null on failure, with the system's reason in `reason`. Symbols stay private to the library.
void* openLibrary(const std::string& path, std::string* reason);

// The same, and libraries that this one opens see its symbols, as the modules of an MPI must.
void* openLibraryGlobally(const std::string& path, std::string* reason);

// The address of a symbol; null if the library doesn't export it.
void* librarySymbol(void* library, const char* name);

// The file from which an address was loaded, with links resolved; '' if the system doesn't know.
std::string fileOfAddress(void* address);

// Keeps the library that holds this code in memory until the process ends. Node unloads an addon with the last
// worker that used it, while threads of the pool may still run its code.
void pinThisLibrary();

}  // namespace sgemoe
