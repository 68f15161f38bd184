// Compiled once: the exponentials, which cost most, come from the table. A row is cut into blocks of columns with the sum and
// the largest of their weights, so that filters and the draw look into few of them.
#include "sampling.h"

#include <algorithm>

#include "costs.h"
#include "parallel.h"
#include "scratch.h"

namespace sgemoe {
namespace {

constexpr int64_t kBlock = 64;        // columns
constexpr int64_t kSpan = 16 * kBlock;  // columns that one call of exp takes
constexpr int kLanes = 16;
constexpr float kLowest = -__builtin_inff();

// Weights above which candidates are gathered, the next where too few are; 0 gathers all.
constexpr float kGathered[] = {0x1p-4f, 0x1p-8f, 0x1p-12f, 0x1p-20f, 0};

// Below so many candidates a sort is as fast as another selection.
constexpr int64_t kSorted = 32;

struct Candidate {
  float weight;
  int32_t column;
};

bool precedes(const Candidate& a, const Candidate& b) {
  return a.weight > b.weight || (a.weight == b.weight && a.column < b.column);
}

// What stays: weights >= least, and of the candidates' order those up to `last`.
struct Cut {
  Candidate last;
  float least;

  bool keeps(float weight, int64_t column) const {
    return weight >= least && (weight > last.weight || (weight == last.weight && column <= last.column));
  }
};

struct Row {
  int64_t cols, blocks;
  double* sums;      // [blocks]
  float* weights;    // [blocks * kBlock], zeros behind the last column
  float* tops;       // [blocks] the largest weight
  Candidate* list;   // [cols]

  static int64_t blocksOf(int64_t cols) { return (cols + kBlock - 1) / kBlock; }
  static int64_t floats(int64_t cols) { return blocksOf(cols) * (kBlock + 3) + 2 * cols; }
  Row(float* memory, int64_t columns) : cols(columns), blocks(blocksOf(columns)) {
    sums = reinterpret_cast<double*>(memory);
    weights = memory + 2 * blocks;
    tops = weights + blocks * kBlock;
    list = reinterpret_cast<Candidate*>(tops + blocks);
  }
};

// The largest number of x; -Infinity if there is none above it.
float largestOf(const float* x, int64_t n) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = kLowest;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  float largest = kLowest;
  for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
  for (const float lane : lanes) largest = lane > largest ? lane : largest;
  return largest;
}

int32_t indexOf(const float* x, int64_t n, float value) {
  for (int64_t i = 0; i < n; i++) {
    if (x[i] == value) return static_cast<int32_t>(i);
  }
  return -1;
}

// Makes NaN 0 and what rounding put above 1 one, and describes the block.
void describe(Row& row, int64_t block) {
  constexpr int lanes = 8;
  float* const w = row.weights + block * kBlock;
  double sums[lanes] = {};
  float tops[lanes] = {};
  for (int64_t i = 0; i < kBlock; i += lanes) {
    for (int j = 0; j < lanes; j++) {
      const float positive = w[i + j] > 0 ? w[i + j] : 0;
      const float weight = positive < 1 ? positive : 1;
      w[i + j] = weight;
      sums[j] += weight;
      tops[j] = weight > tops[j] ? weight : tops[j];
    }
  }
  double sum = 0;
  float top = 0;
  for (int j = 0; j < lanes; j++) {
    sum += sums[j];
    top = tops[j] > top ? tops[j] : top;
  }
  row.sums[block] = sum;
  row.tops[block] = top;
}

void weigh(const KernelTable& kernels, const float* x, float largest, float temperature, Row& row) {
  for (int64_t at = 0; at < row.cols; at += kSpan) {
    const int64_t n = std::min(kSpan, row.cols - at);
    float* const w = row.weights + at;
    // The largest weighs 1, also where Infinity - Infinity would be NaN.
    for (int64_t i = 0; i < n; i++) w[i] = x[at + i] == largest ? 0 : (x[at + i] - largest) / temperature;
    kernels.exp(w, w, n);
    const int64_t end = (n + kBlock - 1) / kBlock * kBlock;
    for (int64_t i = n; i < end; i++) w[i] = 0;
    for (int64_t i = 0; i < end; i += kBlock) describe(row, (at + i) / kBlock);
  }
}

double massOf(const Candidate* list, int64_t count) {
  double mass = 0;
  for (int64_t i = 0; i < count; i++) mass += list[i].weight;
  return mass;
}

// Lists the columns of weight >= least, above 0.
int64_t gather(Row& row, float least) {
  int64_t count = 0;
  for (int64_t b = 0; b < row.blocks; b++) {
    if (row.tops[b] < least || row.tops[b] == 0) continue;
    for (int64_t c = b * kBlock; c < std::min(row.cols, (b + 1) * kBlock); c++) {
      const float weight = row.weights[c];
      if (weight >= least && weight > 0) row.list[count++] = {weight, static_cast<int32_t>(c)};
    }
  }
  return count;
}

// The first of the list's candidates, in their order, with which their sum reaches `missing`; the last, where rounding
// leaves some missing.
Candidate reaching(Candidate* list, int64_t count, double missing) {
  int64_t low = 0, high = count;
  while (high - low > kSorted) {
    const int64_t middle = low + (high - low) / 2;
    std::nth_element(list + low, list + middle, list + high, precedes);
    const double mass = massOf(list + low, middle + 1 - low);
    if (mass >= missing) {
      high = middle + 1;
    } else {
      missing -= mass;
      low = middle + 1;
    }
  }
  std::sort(list + low, list + high, precedes);
  for (int64_t i = low; i < high; i++) {
    missing -= list[i].weight;
    if (missing <= 0) return list[i];
  }
  return list[high - 1];
}

// The last candidate that topK and topP leave.
Candidate lastKept(Row& row, double total, int64_t topK, double topP) {
  int64_t count = 0;
  for (const float least : kGathered) {
    count = gather(row, least);
    if (topK > 0 ? count >= topK : massOf(row.list, count) >= topP * total) break;
  }
  if (topK == 0) return reaching(row.list, count, topP * total);
  if (topK < count) {
    std::nth_element(row.list, row.list + topK - 1, row.list + count, precedes);
    count = topK;
  }
  if (topP < 1) return reaching(row.list, count, topP * massOf(row.list, count));
  return *std::max_element(row.list, row.list + count, precedes);
}

// Sums the blocks again, of what stays.
void sumKept(Row& row, const Cut& cut) {
  for (int64_t b = 0; b < row.blocks; b++) {
    double sum = 0;
    if (row.tops[b] >= cut.last.weight && row.tops[b] >= cut.least) {
      for (int64_t c = b * kBlock; c < (b + 1) * kBlock; c++) {
        if (cut.keeps(row.weights[c], c)) sum += row.weights[c];
      }
    }
    row.sums[b] = sum;
  }
}

// The column at which the sum of what stays first exceeds `left`; the last that stays, where rounding leaves some.
int32_t drawFrom(const Row& row, const Cut& cut, double left) {
  int64_t block = 0;
  bool isReached = false;
  for (int64_t b = 0; b < row.blocks && !isReached; b++) {
    if (row.sums[b] == 0) continue;
    block = b;
    isReached = left < row.sums[b];
    if (!isReached) left -= row.sums[b];
  }
  if (!isReached) left = -static_cast<double>(kLowest);
  int32_t drawn = -1;
  for (int64_t c = block * kBlock; c < std::min(row.cols, (block + 1) * kBlock); c++) {
    const float weight = row.weights[c];
    if (weight == 0 || !cut.keeps(weight, c)) continue;
    drawn = static_cast<int32_t>(c);
    left -= weight;
    if (left < 0) break;
  }
  return drawn;
}

struct Settings {
  float temperature, topP, minP;
  int32_t topK;
  double u;
};

int32_t sampleRow(const KernelTable& kernels, const float* x, const Settings& settings, Row& row) {
  const float largest = largestOf(x, row.cols);
  if (largest == kLowest) return -1;
  if (settings.temperature == 0) return indexOf(x, row.cols, largest);
  weigh(kernels, x, largest, settings.temperature, row);
  double total = 0;
  for (int64_t b = 0; b < row.blocks; b++) total += row.sums[b];
  const int64_t topK = settings.topK > 0 && settings.topK < row.cols ? settings.topK : 0;
  Cut cut{{0, static_cast<int32_t>(row.cols - 1)}, settings.minP};
  const bool selects = topK > 0 || settings.topP < 1;
  if (selects) cut.last = lastKept(row, total, topK, settings.topP);
  if (selects || settings.minP > 0) {
    sumKept(row, cut);
    total = 0;
    for (int64_t b = 0; b < row.blocks; b++) total += row.sums[b];
  }
  const int32_t drawn = drawFrom(row, cut, settings.u * total);
  return drawn >= 0 ? drawn : indexOf(x, row.cols, largest);
}

}  // namespace

void sampleRows(const KernelTable& kernels, const float* logits, int64_t ldLogits, const float* settings,
                const int32_t* choices, int32_t* tokens, int64_t rows, int64_t cols) {
  ScratchParts parts(rows, Row::floats(cols));
  auto sample = [&](int64_t r) {
    const Settings own{settings[3 * r], settings[3 * r + 1], settings[3 * r + 2], choices[2 * r],
                       static_cast<uint32_t>(choices[2 * r + 1]) / 4294967296.0};
    float* const memory = parts.take();
    Row row(memory, cols);
    tokens[r] = sampleRow(kernels, logits + r * ldLogits, own, row);
    parts.giveBack(memory);
  };
  parallelChunks(rows, static_cast<double>(rows) * static_cast<double>(cols) * cost::kSample, sample);
}

}  // namespace sgemoe
