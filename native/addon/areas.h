// Checks of lengths and overlaps, from the elements that a kernel reads and writes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "args.h"

#if defined(__wasm__)
#include "../wasm/host.h"
#endif

namespace sgemoe {

// A call has nanoseconds for its checks, so the code that runs for each argument is inlined.
#define SGEMOE_INLINE inline __attribute__((always_inline))

// Elements from the first to the last of a [rows, cols] matrix whose rows are ld apart. Sizes are doubles, as in
// JavaScript: a product beyond 2^53 is inexact, but still larger than any array, so comparisons decide right.
SGEMOE_INLINE double extent(double rows, double cols, double ld) {
  return rows == 0 || cols == 0 ? 0 : (rows - 1) * ld + cols;
}

// `count` matrices [rows, cols], rows `ld` apart and matrices `stride` apart, from element `first` on; all of them lie
// before `end`, which is 0 when there are none.
struct Area {
  double rows, cols, ld, count, stride, first, end;
};

SGEMOE_INLINE Area matrix(double rows, double cols, double ld) {
  return {rows, cols, ld, 1, 0, 0, extent(rows, cols, ld)};
}
SGEMOE_INLINE Area repeated(double count, const Area& one, double stride) {
  const double end = count == 0 || one.end == 0 ? 0 : (count - 1) * stride + one.end;
  return {one.rows, one.cols, one.ld, count, stride, 0, end};
}

// The area of a matrix with `cols` columns that rows [first, end) use.
SGEMOE_INLINE Area rowsOfGroups(int64_t first, int64_t end, double cols, double ld) {
  Area area = matrix(first == end ? 0 : static_cast<double>(end), cols, ld);
  area.first = static_cast<double>(first) * ld;
  area.rows -= static_cast<double>(first);
  return area;
}

// Throws if two matrices of an area, which are `strideName` apart, share an element.
void requireDistinct(const Args& args, const char* strideName, const Area& area);

// The areas of a call. A local variable, so that the compiler knows how many there are and unrolls the comparisons.
class Areas {
 public:
  explicit Areas(const Args& args) : args_(args) {}

  // Records that the kernel reads or writes this area (or number of elements) of an argument. Throws if the array is too
  // short.
  template <class T, class Extent>
  SGEMOE_INLINE void reads(const Slice<T>& slice, const Extent& extent) {
    use(read_[reads_++], slice, extent);
  }
  template <class T, class Extent>
  SGEMOE_INLINE void writes(const Slice<T>& slice, const Extent& extent) {
    Use& written = written_[writes_++];
    use(written, slice, extent);
#if defined(__wasm__)
    host::noteWritten(written.begin, written.end);
#endif
  }

  // The same for a number of bytes, and for memory of no argument that a kernel reads.
  void readsBytes(const Bytes& slice, double bytes) { useBytes(read_[reads_++], slice, bytes); }
  void writesBytes(const Bytes& slice, double bytes) {
    Use& written = written_[writes_++];
    useBytes(written, slice, bytes);
#if defined(__wasm__)
    host::noteWritten(written.begin, written.end);
#endif
  }
  void readsMemory(const char* name, const uint8_t* memory, int64_t bytes) {
    const auto start = reinterpret_cast<uintptr_t>(memory);
    read_[reads_++] = {start, start + static_cast<uintptr_t>(bytes), name, false, {}};
  }
  // Whether what the kernel writes meets this memory, of which there may be more than a call has areas.
  bool writesInto(const uint8_t* memory, int64_t bytes) const {
    const auto start = reinterpret_cast<uintptr_t>(memory);
    const Use use{start, start + static_cast<uintptr_t>(bytes), "", false, {}};
    for (size_t i = 0; i < writes_; i++) {
      if (written_[i].meets(use)) return true;
    }
    return false;
  }

  // Checks last that the areas that the kernel writes overlap no other. The output `inPlace` may be the input `of`,
  // element by element.
  SGEMOE_INLINE void requireApart(const Floats& inPlace, const Floats& of) const {
    bool meet = false;
    for (size_t i = 0; i < writes_; i++) {
      for (size_t j = 0; j < reads_; j++) meet = meet || written_[i].meets(read_[j]);
      for (size_t j = 0; j < i; j++) meet = meet || written_[i].meets(written_[j]);
    }
    if (meet) compare(inPlace.name, of.name);
  }
  SGEMOE_INLINE void requireApart() const { requireApart({}, {}); }

 private:
  static constexpr size_t kMaxArrays = 10;
  static constexpr uintptr_t kElementBytes = 4;

  struct Use {
    uintptr_t begin, end;  // addresses
    const char* name;
    bool hasGaps;
    Area area;  // where it has gaps

    bool meets(const Use& other) const { return begin < other.end && other.begin < end; }
  };

  SGEMOE_INLINE static uintptr_t bytes(double n) {
    return kElementBytes * static_cast<uintptr_t>(static_cast<int64_t>(n));
  }
  template <class T>
  SGEMOE_INLINE void use(Use& to, const Slice<T>& slice, double elements) {
    to.hasGaps = false;
    place(to, slice, 0, elements);
  }
  template <class T>
  SGEMOE_INLINE void use(Use& to, const Slice<T>& slice, const Area& area) {
    to.hasGaps = (area.rows > 1 && area.ld > area.cols) || area.count > 1;
    if (to.hasGaps) to.area = area;
    place(to, slice, area.first, area.end);
  }
  template <class T>
  SGEMOE_INLINE void place(Use& to, const Slice<T>& slice, double first, double end) {
    static_assert(sizeof(T) == kElementBytes, "areas are compared in bytes");
    to.name = slice.name;
    to.begin = to.end = 0;  // an unused array has no place
    if (slice.isNull) return;
    if (static_cast<double>(slice.offset) + end > slice.length) {
      args_.throwTooShort(slice.name, slice.length, slice.offset, end);
    }
    if (end == 0) return;
    const auto start = reinterpret_cast<uintptr_t>(slice.begin());
    to.begin = start + bytes(first);
    to.end = start + bytes(end);
  }

  void useBytes(Use& to, const Bytes& slice, double bytes) {
    if (static_cast<double>(slice.offset) + bytes > slice.length) {
      args_.throwTooShort(slice.name, slice.length, slice.offset, bytes);
    }
    const auto start = bytes == 0 ? 0 : reinterpret_cast<uintptr_t>(slice.begin());
    to = {start, start + static_cast<uintptr_t>(static_cast<int64_t>(bytes)), slice.name, false, {}};
  }

  void compare(const char* inPlace, const char* of) const;
  void comparePair(const Use& written, const Use& other, bool mayCoincide) const;
  static bool interleave(const Use& a, const Use& b);

  const Args& args_;
  size_t reads_ = 0, writes_ = 0;
  Use read_[kMaxArrays], written_[kMaxArrays];
};

}  // namespace sgemoe
