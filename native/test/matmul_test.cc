// The grouped matmuls and a kernel with scratch memory, from several threads at once: the bits of one thread.
#include <cstring>
#include <thread>
#include <vector>

#include "../gemm.h"
#include "../parallel.h"
#include "check.h"

namespace sgemoe {
namespace SGEMOE_ISA {
extern const KernelTable kTable;
}

namespace test {
namespace {

using Array = std::vector<float>;

constexpr int kCallers = 3;
constexpr int kRepetitions = 4;

const KernelTable& kernels() { return SGEMOE_ISA::kTable; }

// Ragged, with empty groups at the start, within and at the end, and one large enough to be cut.
const std::vector<int32_t> kRowStarts = {0, 0, 1, 1, 18, 50, 51, 211, 500, 500};
constexpr int64_t kGroups = 9, kRows = 500, kWide = 160, kNarrow = 67;

Array numbers(int64_t n, uint32_t seed) {
  Array x(static_cast<size_t>(n));
  for (float& value : x) {
    seed = seed * 1664525 + 1013904223;
    value = static_cast<float>(seed >> 8) / 8388608.0f - 1.0f;
  }
  return x;
}

Array grouped() {
  const Gemm gemm{kernels().sgemm, &kernels()};
  const Array a = numbers(kRows * kNarrow, 1), b = numbers(kGroups * kWide * kNarrow, 2);
  Array c = numbers(kRows * kWide, 3);
  sgemmGrouped(gemm, true, kGroups, kRowStarts.data(), kWide, kNarrow, 1.5f, a.data(), kNarrow, b.data(), kNarrow,
               kWide * kNarrow, 0.5f, c.data(), kWide);
  return c;
}

Array groupedTransA() {
  const Gemm gemm{kernels().sgemm, &kernels()};
  const Array a = numbers(kRows * kNarrow, 4), b = numbers(kRows * kWide, 5);
  Array c = numbers(kGroups * kNarrow * kWide, 6);
  sgemmGroupedTransA(gemm, kGroups, kRowStarts.data(), kNarrow, kWide, 1.0f, a.data(), kNarrow, b.data(), kWide, 1.0f,
                     c.data(), kWide, kNarrow * kWide);
  return c;
}

Array batched() {
  const Gemm gemm{kernels().sgemm, &kernels()};
  constexpr int64_t kBatch = 7, kM = 65, kN = 33, kK = 19;
  const Array a = numbers(kBatch * kM * kK, 7), b = numbers(kBatch * kK * kN, 8);
  Array c(static_cast<size_t>(kBatch * kM * kN));
  sgemmBatch(gemm, false, false, kM, kN, kK, 1.0f, a.data(), kK, kM * kK, b.data(), kN, kK * kN, 0.0f, c.data(), kN,
             kM * kN, kBatch);
  return c;
}

Array attention() {
  constexpr int64_t kSeq = 130, kHeads = 4, kDim = 16, kWidth = kHeads * kDim;
  const int32_t queryStarts[] = {0, 0}, kvLengths[] = {kSeq, kSeq};
  AttentionShape s{};
  s.batch = 2, s.queryLen = kSeq, s.nHeads = kHeads, s.nKvHeads = 2, s.headDim = kDim;
  s.ldq = s.ldk = s.ldv = s.ldo = kWidth;
  s.kBatchStride = s.vBatchStride = kSeq * kWidth;
  s.scale = 0.25f;
  s.queryStarts = queryStarts, s.kvLengths = kvLengths;
  const int64_t size = s.batch * kSeq * kWidth;
  const Array q = numbers(size, 9), k = numbers(size, 10), v = numbers(size, 11), dOut = numbers(size, 12);
  Array out(static_cast<size_t>(size)), lse(static_cast<size_t>(s.batch * kHeads * kSeq));
  Array gradients(static_cast<size_t>(3 * size), 0.0f);
  kernels().attentionForward(s, q.data(), k.data(), v.data(), out.data(), lse.data());
  kernels().attentionBackward(s, q.data(), k.data(), v.data(), out.data(), lse.data(), dOut.data(), gradients.data(),
                              gradients.data() + size, gradients.data() + 2 * size);
  gradients.insert(gradients.end(), out.begin(), out.end());
  return gradients;
}

bool sameBits(const Array& a, const Array& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// compute() on several threads of the caller's and of the pool's, against compute() on one.
std::string sameOnAllThreads(Array (*compute)()) {
  setThreadCount(1);
  const Array expected = compute();
  for (const int threads : {2, 3, 8}) {
    setThreadCount(threads);
    int different[kCallers] = {};
    std::vector<std::thread> callers;
    for (int& count : different) {
      callers.emplace_back([&count, &expected, compute] {
        for (int i = 0; i < kRepetitions; i++) count += !sameBits(compute(), expected);
      });
    }
    for (std::thread& caller : callers) caller.join();
    for (const int count : different) {
      if (count > 0) return "with " + std::to_string(threads) + " threads other bits than with one";
    }
  }
  return "";
}

}  // namespace

void matmulTests() {
  test("grouped matmuls of ragged and empty groups", [] { return sameOnAllThreads(grouped); });
  test("grouped matmuls with A transposed", [] { return sameOnAllThreads(groupedTransA); });
  test("batched matmuls", [] { return sameOnAllThreads(batched); });
  test("attention, forward and backward", [] { return sameOnAllThreads(attention); });
}

}  // namespace test
}  // namespace sgemoe
