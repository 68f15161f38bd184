// kernel_bench: the kernels of the elementwise family called from C++, beside plain loops (c_loops.cc) on the same
// arrays, in turn, on one thread. A line of JSON for each case, medians in nanoseconds a call:
//   {"kernel":"softmaxForward","rows":64,"cols":64,"loopNs":...,"kernelNs":...}
// bench/boundary.js runs it and adds what a call from JavaScript takes.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "../cpu.h"
#include "../parallel.h"
#include "c_loops.h"

namespace {

using sgemoe::KernelTable;
using sgemoe::RouteShape;

constexpr int kSamples = 61;
constexpr double kSampleNs = 40e3;
constexpr int64_t kTopK = 2, kHeads = 4;
constexpr int64_t kPositions = 512;

struct Case {
  std::function<void()> loop, kernel;
};
using MakeCase = Case (*)(const KernelTable& k, int64_t rows, int64_t cols);

// ---------------------------------------------------------------- arrays, which live as long as the process

template <class T>
T* array(int64_t n) {
  return static_cast<T*>(aligned_alloc(64, static_cast<size_t>((n * static_cast<int64_t>(sizeof(T)) + 4095) & ~4095)));
}

float* zeros(int64_t n) {
  float* const x = array<float>(n);
  std::fill_n(x, n, 0.0f);
  return x;
}

float* normals(int64_t n, uint32_t stream = 0) {
  float* const x = array<float>(n);
  sgemoe::randomNormal(x, n, 42, 0, stream, 1.0);
  return x;
}

template <class F>
int32_t* integers(int64_t n, F valueAt) {
  int32_t* const x = array<int32_t>(n);
  for (int64_t i = 0; i < n; i++) x[i] = static_cast<int32_t>(valueAt(i));
  return x;
}

// ---------------------------------------------------------------- cases; rows and cols as bench/lib/boundaryCases.js

Case exp(const KernelTable& k, int64_t rows, int64_t cols) {
  const int64_t n = rows * cols;
  const float* const x = normals(n);
  float* const y = zeros(n);
  return {[=] { sgemoe::loops::exp(x, y, n); }, [=] { k.exp(x, y, n); }};
}

Case silu(const KernelTable& k, int64_t rows, int64_t cols) {
  const int64_t n = rows * cols;
  const float* const x = normals(n);
  float* const y = zeros(n);
  return {[=] { sgemoe::loops::silu(x, y, n); }, [=] { k.silu(x, y, n); }};
}

Case softmaxForward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float* const x = normals(rows * cols);
  float* const y = zeros(rows * cols);
  return {[=] { sgemoe::loops::softmaxForward(x, y, rows, cols); }, [=] { k.softmaxForward(x, y, rows, cols); }};
}

Case softmaxBackward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float *const y = normals(rows * cols), *const dy = normals(rows * cols, 1);
  float* const dx = zeros(rows * cols);
  return {[=] { sgemoe::loops::softmaxBackward(y, dy, dx, rows, cols); },
          [=] { k.softmaxBackward(y, dy, dx, rows, cols); }};
}

Case rmsNormForward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float *const x = normals(rows * cols), *const gamma = normals(cols, 1);
  float *const y = zeros(rows * cols), *const invRms = zeros(rows);
  return {[=] { sgemoe::loops::rmsNormForward(x, gamma, y, invRms, rows, cols); },
          [=] { k.rmsNormForward(x, cols, gamma, y, cols, invRms, rows, cols, 1e-6); }};
}

Case rmsNormBackward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float *const x = normals(rows * cols), *const gamma = normals(cols, 1), *const dy = normals(rows * cols, 2);
  float *const invRms = zeros(rows), *const dx = zeros(rows * cols), *const dGamma = zeros(cols);
  std::fill_n(invRms, rows, 1.0f);
  return {[=] { sgemoe::loops::rmsNormBackward(x, gamma, invRms, dy, dx, dGamma, rows, cols); },
          [=] { k.rmsNormBackward(x, cols, gamma, invRms, dy, cols, dx, cols, false, dGamma, rows, cols); }};
}

Case swigluForward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float* const gateUp = normals(2 * rows * cols);
  float* const y = zeros(rows * cols);
  return {[=] { sgemoe::loops::swigluForward(gateUp, y, rows, cols); },
          [=] { k.swigluForward(gateUp, y, rows, cols); }};
}

Case swigluBackward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float *const gateUp = normals(2 * rows * cols), *const dy = normals(rows * cols, 1);
  float* const dGateUp = zeros(2 * rows * cols);
  return {[=] { sgemoe::loops::swigluBackward(gateUp, dy, dGateUp, rows, cols); },
          [=] { k.swigluBackward(gateUp, dy, dGateUp, rows, cols); }};
}

Case rope(const KernelTable& k, int64_t rows, int64_t cols) {
  float* const x = normals(rows * cols);
  const int64_t dim = cols / kHeads;
  float *const cos = zeros(kPositions * dim / 2), *const sin = zeros(kPositions * dim / 2);
  std::fill_n(cos, kPositions * dim / 2, 0.6f);
  std::fill_n(sin, kPositions * dim / 2, 0.8f);
  const int32_t* const positions = integers(rows, [](int64_t i) { return i % kPositions; });
  return {[=] { sgemoe::loops::rope(x, cos, sin, positions, rows, kHeads, dim); },
          [=] { k.rope(x, cols, cos, sin, positions, rows, kHeads, dim, false, false); }};
}

struct Routing {
  RouteShape shape;
  const float* logits;
  float *probs, *lse;
  int32_t* indices;
  float* weights;
  int32_t *starts, *slotToToken, *tokenToSlots;
  float* means;

  Routing(int64_t tokens, int64_t nExperts)
      : shape{tokens, nExperts, kTopK, true},
        logits(normals(tokens * nExperts)),
        probs(zeros(tokens * nExperts)),
        lse(zeros(tokens)),
        indices(array<int32_t>(tokens * kTopK)),
        weights(zeros(tokens * kTopK)),
        starts(array<int32_t>(nExperts + 1)),
        slotToToken(array<int32_t>(tokens * kTopK)),
        tokenToSlots(array<int32_t>(tokens * kTopK)),
        means(zeros(nExperts)) {}

  template <class F, class... Bias>
  void route(F routeForward, Bias... bias) const {
    routeForward(shape, logits, bias..., probs, lse, indices, weights, starts, slotToToken, tokenToSlots, means);
  }
};

Case routeForward(const KernelTable& k, int64_t rows, int64_t cols) {
  const Routing r(rows, cols);
  return {[=] { r.route(sgemoe::loops::routeForward); },
          [=] { r.route(k.routeForward, static_cast<const float*>(nullptr)); }};
}

Case routeBackward(const KernelTable& k, int64_t rows, int64_t cols) {
  const Routing r(rows, cols);
  r.route(sgemoe::loops::routeForward);
  const float* const dWeights = normals(rows * kTopK, 1);
  float* const dLogits = zeros(rows * cols);
  const auto call = [=](auto backward) {
    backward(r.shape, r.probs, r.lse, r.indices, r.weights, dWeights, r.starts, dLogits, 1e-6f, 1e-6f);
  };
  return {[=] { call(sgemoe::loops::routeBackward); }, [=] { call(k.routeBackward); }};
}

Case gatherRows(const KernelTable& k, int64_t rows, int64_t cols) {
  const float* const src = normals(rows * cols);
  float* const dst = zeros(rows * cols);
  const int32_t* const indices = integers(rows, [=](int64_t i) { return rows - 1 - i; });
  return {[=] { sgemoe::loops::gatherRows(src, indices, dst, rows, cols); },
          [=] { k.gatherRows(src, indices, dst, rows, cols); }};
}

// Choice j of token t comes from slot j * tokens + t: as far apart as a sort by expert puts them.
int32_t* slotsOf(int64_t tokens) {
  return integers(tokens * kTopK, [=](int64_t i) { return i % kTopK * tokens + i / kTopK; });
}

Case scatterAddRows(const KernelTable& k, int64_t rows, int64_t cols) {
  const float *const x = normals(kTopK * rows * cols), *const weights = normals(kTopK * rows, 1);
  float* const y = zeros(rows * cols);
  const int32_t* const slots = slotsOf(rows);
  return {[=] { sgemoe::loops::scatterAddRows(x, slots, weights, y, rows, kTopK, cols); },
          [=] { k.scatterAddRows(x, slots, weights, y, rows, kTopK, cols); }};
}

Case scatterAddRowsBackward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float *const dy = normals(rows * cols), *const x = normals(kTopK * rows * cols, 1);
  const float* const weights = normals(kTopK * rows, 2);
  float *const dx = zeros(kTopK * rows * cols), *const dWeights = zeros(kTopK * rows);
  const int32_t* const slots = slotsOf(rows);
  return {[=] { sgemoe::loops::scatterAddRowsBackward(dy, x, slots, weights, dx, dWeights, rows, kTopK, cols); },
          [=] { k.scatterAddRowsBackward(dy, x, slots, weights, dx, dWeights, rows, kTopK, cols); }};
}

Case embeddingBackward(const KernelTable& k, int64_t rows, int64_t cols) {
  const float* const dy = normals(rows * cols);
  float* const table = zeros(rows * cols);
  const int32_t* const ids = integers(rows, [=](int64_t i) { return rows - 1 - i; });
  return {[=] { sgemoe::loops::embeddingBackward(dy, ids, table, rows, cols); },
          [=] { k.embeddingBackward(dy, ids, table, rows, cols); }};
}

Case crossEntropy(const KernelTable& k, int64_t rows, int64_t cols) {
  float *const logits = normals(rows * cols), *const losses = zeros(rows);
  const int32_t* const targets = integers(rows, [=](int64_t i) { return i % cols; });
  return {[=] { sgemoe::loops::crossEntropy(logits, targets, losses, rows, cols, 1.0f); },
          [=] { k.crossEntropy(logits, targets, losses, rows, cols, -100, 1.0, true); }};
}

Case sumSquares(const KernelTable& k, int64_t rows, int64_t cols) {
  const int64_t n = rows * cols;
  const float* const x = normals(n);
  double* const sum = array<double>(1);
  return {[=] { *sum = sgemoe::loops::sumSquares(x, n); }, [=] { *sum = k.sumSquares(x, n); }};
}

Case scale(const KernelTable& k, int64_t rows, int64_t cols) {
  const int64_t n = rows * cols;
  float* const x = normals(n);
  return {[=] { sgemoe::loops::scale(x, n, -1.0f); }, [=] { k.scale(x, n, -1.0f); }};
}

Case axpy(const KernelTable& k, int64_t rows, int64_t cols) {
  const int64_t n = rows * cols;
  const float* const x = normals(n);
  float* const y = normals(n, 1);
  return {[=] { sgemoe::loops::axpy(n, 1e-6f, x, y); }, [=] { k.axpy(n, 1e-6f, x, y); }};
}

Case adamw(const KernelTable& k, int64_t rows, int64_t cols) {
  const int64_t n = rows * cols;
  float *const param = normals(n), *const m = zeros(n), *const v = zeros(n);
  const float* const grad = normals(n, 1);
  const sgemoe::AdamwArgs args{1e-4, 0.9, 0.95, 1e-8, 0.1, 0.1, 0.05, 1};
  return {[=] { sgemoe::loops::adamw(param, grad, m, v, n, args); }, [=] { k.adamw(param, grad, m, v, n, args); }};
}

struct Named {
  const char* name;
  MakeCase make;
  int64_t sizes[2][2];  // rows, cols: a step of the tiny preset, and what fills a cache of the second level
};

constexpr Named kCases[] = {
    {"exp", exp, {{1, 1000}, {1, 65536}}},
    {"silu", silu, {{1, 1000}, {1, 65536}}},
    {"softmaxForward", softmaxForward, {{1, 1000}, {128, 512}}},
    {"softmaxBackward", softmaxBackward, {{1, 1000}, {128, 512}}},
    {"rmsNormForward", rmsNormForward, {{64, 64}, {128, 512}}},
    {"rmsNormBackward", rmsNormBackward, {{64, 64}, {128, 512}}},
    {"swigluForward", swigluForward, {{32, 256}, {128, 256}}},
    {"swigluBackward", swigluBackward, {{32, 256}, {128, 256}}},
    {"rope", rope, {{64, 64}, {256, 256}}},
    {"routeForward", routeForward, {{256, 4}, {1024, 8}}},
    {"routeBackward", routeBackward, {{256, 4}, {1024, 8}}},
    {"gatherRows", gatherRows, {{128, 64}, {128, 512}}},
    {"scatterAddRows", scatterAddRows, {{64, 64}, {64, 512}}},
    {"scatterAddRowsBackward", scatterAddRowsBackward, {{64, 64}, {64, 512}}},
    {"embeddingBackward", embeddingBackward, {{64, 64}, {128, 512}}},
    {"crossEntropy", crossEntropy, {{16, 1000}, {16, 8192}}},
    {"sumSquares", sumSquares, {{1, 1000}, {1, 65536}}},
    {"scale", scale, {{1, 1000}, {1, 65536}}},
    {"axpy", axpy, {{1, 1000}, {1, 65536}}},
    {"adamw", adamw, {{1, 1000}, {1, 65536}}},
};

// ---------------------------------------------------------------- timing

double timeOf(const std::function<void()>& run, int64_t calls) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < calls; i++) run();
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  return time.count() / static_cast<double>(calls);
}

double median(std::vector<double>& samples) {
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

void report(const Named& named, const int64_t (&size)[2], const KernelTable& table) {
  const Case c = named.make(table, size[0], size[1]);
  const double once = std::min(timeOf(c.loop, 3), timeOf(c.kernel, 3));
  const auto calls = static_cast<int64_t>(kSampleNs / std::max(once, 1.0)) + 1;
  std::vector<double> loop, kernel;
  for (int i = 0; i < kSamples; i++) {
    loop.push_back(timeOf(c.loop, calls));
    kernel.push_back(timeOf(c.kernel, calls));
  }
  std::printf("{\"kernel\":\"%s\",\"rows\":%lld,\"cols\":%lld,\"loopNs\":%.1f,\"kernelNs\":%.1f}\n", named.name,
              static_cast<long long>(size[0]), static_cast<long long>(size[1]), median(loop), median(kernel));
}

}  // namespace

// kernel_bench [part of a kernel's name]
int main(int count, char** arguments) {
  const char* const part = count > 1 ? arguments[1] : "";
  sgemoe::setThreadCount(1);
  for (const Named& named : kCases) {
    if (std::strstr(named.name, part) == nullptr) continue;
    for (const auto& size : named.sizes) report(named, size, *sgemoe::bestKernelTable());
  }
  return 0;
}
