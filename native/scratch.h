// Temporary memory of kernels. It is kept from call to call, so that a steady step allocates nothing.
#pragma once
#include <cstdint>

namespace sgemoe {

// Floats from the calling thread's scratch, 64-byte aligned, uninitialised, until the end of the scope. Throws
// std::bad_alloc; so construct it before a parallel region, never inside one. A second one alive on the same thread
// gets memory of its own.
class Scratch {
 public:
  explicit Scratch(int64_t floats);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
  bool owned_;
};

// Equal parts of scratch for the chunks of a parallel region, as many as can run at once, and a part shared by all.
class ScratchParts {
 public:
  ScratchParts(int64_t chunks, int64_t floatsPerPart, int64_t sharedFloats = 0);
  float* shared() const { return memory_.data() + parts_ * stride_; }
  float* take();  // from any thread; waits in the rare case that all parts are taken
  void giveBack(float* part);

 private:
  static constexpr int64_t kMaxParts = 64;
  int64_t parts_, stride_;
  Scratch memory_;
  uint64_t free_;
};

}  // namespace sgemoe
