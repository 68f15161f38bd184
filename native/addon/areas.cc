#include "areas.h"

#include <string>
#include <utility>

namespace sgemoe {
namespace {

uintptr_t greatestDivisor(uintptr_t a, uintptr_t b) {
  while (a != 0 && a != b) {
    const uintptr_t rest = b % a;
    b = a;
    a = rest;
  }
  return b;
}

constexpr uintptr_t kElementBytes = 4;

// An area as a run of `width` bytes that repeats every `period` bytes; a period of 0 means that it doesn't repeat.
struct Pattern {
  uintptr_t width, period;
};

// Rows, or matrices, that follow each other without a gap are one longer run.
Pattern patternOf(const Area& area) {
  struct Level {
    double stride, count;
  } levels[] = {{area.ld, area.rows}, {area.stride, area.count}};
  if (levels[1].stride < levels[0].stride) std::swap(levels[0], levels[1]);
  double width = area.cols;
  uintptr_t period = 0;
  for (const Level& level : levels) {
    if (level.count <= 1) continue;
    if (level.stride <= width) {
      width += (level.count - 1) * level.stride;
    } else {
      period = greatestDivisor(period, static_cast<uintptr_t>(level.stride));
    }
  }
  return {kElementBytes * static_cast<uintptr_t>(width), kElementBytes * period};
}

}  // namespace

// Whether two areas lie in each other's gaps, as the q, k and v of one matrix do. They must have separate places in a
// common period; areas that merely happen to miss each other don't count.
bool Areas::interleave(const Use& a, const Use& b) {
  if (b.begin < a.begin) return interleave(b, a);
  const auto pattern = [](const Use& use) {
    return use.hasGaps ? patternOf(use.area) : Pattern{use.end - use.begin, 0};
  };
  const Pattern p = pattern(a), q = pattern(b);
  const uintptr_t period = greatestDivisor(p.period, q.period);
  if (period == 0) return false;
  const uintptr_t at = (b.begin - a.begin) % period;
  return p.width <= at && at + q.width <= period;
}

void Areas::comparePair(const Use& written, const Use& other, bool mayCoincide) const {
  if (!written.meets(other)) return;
  if (mayCoincide && written.begin == other.begin && written.hasGaps == other.hasGaps &&
      (!written.hasGaps || written.area.ld == other.area.ld)) {
    return;
  }
  if (interleave(written, other)) return;
  args_.throwRange(std::string(written.name) + " must not overlap " + other.name);
}

void Areas::compare(const char* inPlace, const char* of) const {
  for (size_t i = 0; i < writes_; i++) {
    for (size_t j = 0; j < reads_; j++) {
      comparePair(written_[i], read_[j], written_[i].name == inPlace && read_[j].name == of);
    }
    for (size_t j = 0; j < i; j++) comparePair(written_[j], written_[i], false);
  }
}

void requireDistinct(const Args& args, const char* strideName, const Area& area) {
  const auto rows = static_cast<int64_t>(area.rows), cols = static_cast<int64_t>(area.cols);
  const auto ld = static_cast<int64_t>(area.ld), stride = static_cast<int64_t>(area.stride);
  const auto one = static_cast<int64_t>(extent(area.rows, area.cols, area.ld));
  int64_t distance = stride;
  for (int64_t i = 1; i < static_cast<int64_t>(area.count) && distance < one; i++, distance += stride) {
    const int64_t down = distance / ld, right = distance % ld;
    if ((down < rows && right < cols) || (down + 1 < rows && ld - right < cols)) {
      args.throwRange(std::string(strideName) + " must keep the matrices apart, got " + args.text(area.stride));
    }
  }
}

}  // namespace sgemoe
