// Files in memory: private copy-on-write mappings, whose pages all threads and processes share until they write.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace sgemoe {

// A mapped file. The mapping ends with the last owner. Where the system lets a mapped file shrink (not on Windows), what
// is read beyond its new end is zeros instead of a SIGBUS, and `state` says so from then on.
class MappedFile {
 public:
  enum class State { whole, lost, changed };

  // Null, with a sentence in `reason`, if the file can't be mapped. An empty file has no mapping.
  static std::shared_ptr<MappedFile> open(const std::string& path, std::string* reason);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }

  // `lost` once a page could not be read; `changed` if size or time of change aren't those at `open`. One system call.
  State state() const;

 private:
  MappedFile() = default;

  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  intptr_t file_ = -1;
#if !defined(_WIN32)
  int64_t changed_ = 0;  // time of the last change at `open`
  int slot_ = -1;        // the place among those that the signal handler knows
#endif
};

}  // namespace sgemoe
