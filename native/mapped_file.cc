#include "mapped_file.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#endif

namespace sgemoe {

#if defined(_WIN32)

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path, std::string* reason) {
  const auto failed = [&](const char* what) -> std::shared_ptr<MappedFile> {
    *reason = std::string(what) + " failed with error " + std::to_string(GetLastError());
    return nullptr;
  };
  std::wstring wide(path.size() + 1, L'\0');
  if (MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, &wide[0], static_cast<int>(wide.size())) == 0) {
    return failed("MultiByteToWideChar");
  }
  // Nobody else may open it for writing meanwhile, so it can't change.
  const HANDLE file = CreateFileW(wide.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING,
                                  FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) return failed("CreateFile");
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->file_ = reinterpret_cast<intptr_t>(file);
  LARGE_INTEGER size;
  if (!GetFileSizeEx(file, &size)) return failed("GetFileSizeEx");
  mapped->size_ = static_cast<uint64_t>(size.QuadPart);
  if (mapped->size_ == 0) return mapped;
  const HANDLE section = CreateFileMappingW(file, nullptr, PAGE_WRITECOPY, 0, 0, nullptr);
  if (section == nullptr) return failed("CreateFileMapping");
  mapped->data_ = static_cast<uint8_t*>(MapViewOfFile(section, FILE_MAP_COPY, 0, 0, 0));
  const DWORD error = GetLastError();
  CloseHandle(section);  // the view keeps it
  SetLastError(error);
  if (mapped->data_ == nullptr) return failed("MapViewOfFile");
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) UnmapViewOfFile(data_);
  if (file_ != -1) CloseHandle(reinterpret_cast<HANDLE>(file_));
}

MappedFile::State MappedFile::state() const { return State::whole; }

#else

namespace {

// The mappings that the signal handler knows. It may run in any thread at any time, so it takes no lock: `begin` is set
// last and cleared first.
struct Known {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> lost{false};
};
constexpr int kMostMappings = 1024;
Known known[kMostMappings];

std::mutex& knownMutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

struct sigaction previous;
uintptr_t pageBytes;

// Puts zeros where the file has no bytes any more, from the missing page to the end of the mapping. The read that met the
// hole is then repeated. Everything that is called is a system call.
bool fillHole(uintptr_t address) {
  for (Known& each : known) {
    const uintptr_t begin = each.begin.load(std::memory_order_acquire);
    const uintptr_t end = each.end.load(std::memory_order_relaxed);
    if (begin == 0 || address < begin || address >= end) continue;
    const uintptr_t page = address / pageBytes * pageBytes;
    each.lost.store(true, std::memory_order_release);
    return mmap(reinterpret_cast<void*>(page), end - page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
  }
  return false;
}

void onBusError(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const bool filled = fillHole(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = error;
  if (filled) return;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    sigaction(signal, &previous, nullptr);  // the access is repeated, and ends the process as it would have without us
  }
}

// Installed once, with the first mapping. A handler that another library installs later has the last word.
void installHandler() {
  static const bool done = [] {
    pageBytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action;
    std::memset(&action, 0, sizeof action);
    action.sa_sigaction = onBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
    return true;
  }();
  static_cast<void>(done);
}

// The index of a free place, now taken; -1 without one.
int remember(uintptr_t begin, uintptr_t end) {
  std::lock_guard<std::mutex> lock(knownMutex());
  for (int i = 0; i < kMostMappings; i++) {
    if (known[i].begin.load(std::memory_order_relaxed) != 0) continue;
    known[i].end.store(end, std::memory_order_relaxed);
    known[i].lost.store(false, std::memory_order_relaxed);
    known[i].begin.store(begin, std::memory_order_release);
    return i;
  }
  return -1;
}

int64_t timeOfChange(const struct stat& stats) {
#if defined(__APPLE__)
  const struct timespec& time = stats.st_mtimespec;
#else
  const struct timespec& time = stats.st_mtim;
#endif
  return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path, std::string* reason) {
  const auto failed = [&](const char* what) -> std::shared_ptr<MappedFile> {
    *reason = std::string(what) + " failed: " + std::strerror(errno);
    return nullptr;
  };
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  // Without O_NONBLOCK, opening a named pipe would wait for a writer.
  mapped->file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (mapped->file_ == -1) return failed("open");
  struct stat stats;
  if (fstat(static_cast<int>(mapped->file_), &stats) != 0) return failed("fstat");
  mapped->changed_ = timeOfChange(stats);
  const auto size = static_cast<uint64_t>(stats.st_size);
  if (size == 0) return mapped;
  installHandler();
  // Without MAP_NORESERVE, Linux refuses what is larger than the memory, since every page might be written.
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, static_cast<int>(mapped->file_), 0);
  if (data == MAP_FAILED) return failed("mmap");
  mapped->data_ = static_cast<uint8_t*>(data);
  mapped->size_ = size;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  mapped->slot_ = remember(begin, (begin + size + pageBytes - 1) / pageBytes * pageBytes);
  if (mapped->slot_ == -1) {
    *reason = "the process has " + std::to_string(kMostMappings) + " mapped files";
    return nullptr;
  }
  return mapped;
}

MappedFile::~MappedFile() {
  if (slot_ != -1) known[slot_].begin.store(0, std::memory_order_release);
  if (data_ != nullptr) munmap(data_, size_);
  if (file_ != -1) close(static_cast<int>(file_));
}

MappedFile::State MappedFile::state() const {
  if (slot_ != -1 && known[slot_].lost.load(std::memory_order_acquire)) return State::lost;
  struct stat stats;
  const bool same = fstat(static_cast<int>(file_), &stats) == 0 && static_cast<uint64_t>(stats.st_size) == size_ &&
                    timeOfChange(stats) == changed_;
  return same ? State::whole : State::changed;
}

#endif

}  // namespace sgemoe
