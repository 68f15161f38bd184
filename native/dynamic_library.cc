#include "dynamic_library.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>

#include <cstdlib>
#endif

namespace sgemoe {

#if defined(_WIN32)

bool isLibraryOpen(const std::string& path) {
  wchar_t wide[4096];
  return MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, wide, 4096) != 0 && GetModuleHandleW(wide) != nullptr;
}

void* openLibrary(const std::string& path, std::string* reason) {
  wchar_t wide[4096];
  if (MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, wide, 4096) == 0) {
    *reason = "the path is too long or not UTF-8";
    return nullptr;
  }
  // With a folder in the path, the libraries it needs are looked for in that folder first.
  const DWORD flags = path.find_first_of("/\\") == std::string::npos ? 0 : LOAD_WITH_ALTERED_SEARCH_PATH;
  HMODULE library = LoadLibraryExW(wide, nullptr, flags);
  if (library == nullptr) *reason = "LoadLibrary failed with error " + std::to_string(GetLastError());
  return library;
}

void* librarySymbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}

std::string fileOfAddress(void* address) {
  HMODULE module = nullptr;
  const DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (!GetModuleHandleExW(flags, static_cast<LPCWSTR>(address), &module)) return "";
  wchar_t wide[4096];
  char path[3 * 4096];
  if (GetModuleFileNameW(module, wide, 4096) == 0) return "";
  if (WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, sizeof path, nullptr, nullptr) == 0) return "";
  return path;
}

void pinThisLibrary() {
  HMODULE module = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                     reinterpret_cast<LPCWSTR>(&pinThisLibrary), &module);
}

#else

bool isLibraryOpen(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library != nullptr) dlclose(library);
  return library != nullptr;
}

static void* openWith(const std::string& path, int visibility, std::string* reason) {
  void* library = dlopen(path.c_str(), RTLD_NOW | visibility);
  if (library == nullptr) {
    const char* message = dlerror();
    *reason = message != nullptr ? message : "dlopen failed";
  }
  return library;
}

void* openLibrary(const std::string& path, std::string* reason) { return openWith(path, RTLD_LOCAL, reason); }

void* openLibraryGlobally(const std::string& path, std::string* reason) { return openWith(path, RTLD_GLOBAL, reason); }

void* librarySymbol(void* library, const char* name) { return dlsym(library, name); }

std::string fileOfAddress(void* address) {
  Dl_info info;
  if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) return "";
  std::string path = info.dli_fname;
  if (char* resolved = realpath(info.dli_fname, nullptr)) {
    path = resolved;
    std::free(resolved);
  }
  return path;
}

// On Linux the linker has marked the library so already; the second mark does no harm.
void pinThisLibrary() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&pinThisLibrary), &info) != 0 && info.dli_fname != nullptr) {
    dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  }
}

#endif

}  // namespace sgemoe
