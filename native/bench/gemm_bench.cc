// The matmuls of the tiny and the small model's steps, one thread, without Node: rates of the built-in kernel, of a
// BLAS library where one is found, of what dispatch chooses between them, and of packed weights, timed in turn.
//
//   gemm_bench [--isa NAME] [--blas PATH] [--shape nt|nn|tn,M,N,K] [LIST ...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../blas.h"
#include "../cpu.h"
#include "../dispatch.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace sgemoe {
namespace {

using Clock = std::chrono::steady_clock;

// ---------------------------------------------------------------- what a step multiplies

struct Product {
  bool transA, transB;
  int64_t m, n, k;
  float beta;
  int count;  // in a step

  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
};

Product forwardBy(int64_t rows, int64_t out, int64_t in, int count) { return {false, true, rows, out, in, 0, count}; }
Product inputGradient(int64_t rows, int64_t in, int64_t out, int count) {
  return {false, false, rows, in, out, 0, count};
}
Product weightGradient(int64_t rows, int64_t out, int64_t in, int count) {
  return {true, false, out, in, rows, 0, count};
}

struct Model {
  int64_t hidden, headDim, ffn;
};
constexpr Model kTiny{64, 16, 256}, kSmall{256, 64, 1024};
constexpr int64_t kHeads = 4, kVocab = 1000, kExperts = 4, kBatch = 2;
constexpr int kLayers = 2;
// How unevenly tokens spread over the experts, in 64ths of all assignments.
constexpr int64_t kLoad[kExperts] = {10, 22, 14, 18};

std::vector<Product> forward(const Model& d, int64_t seq) {
  const int64_t tokens = kBatch * seq;
  const int heads = static_cast<int>(kBatch * kHeads) * kLayers;
  std::vector<Product> list = {
      forwardBy(tokens, d.hidden + 2 * d.headDim, d.hidden, kLayers),
      forwardBy(seq, seq, d.headDim, heads),
      inputGradient(seq, d.headDim, seq, heads),
      forwardBy(tokens, d.hidden, d.hidden, kLayers),
      forwardBy(tokens, kExperts, d.hidden, kLayers),
  };
  for (const int64_t load : kLoad) {
    const int64_t rows = std::max<int64_t>(1, 2 * tokens * load / 64);
    list.push_back(forwardBy(rows, 2 * d.ffn, d.hidden, kLayers));
    list.push_back(forwardBy(rows, d.hidden, d.ffn, kLayers));
  }
  list.push_back(forwardBy(tokens, kVocab, d.hidden, 1));
  return list;
}

std::vector<Product> train(const Model& d, int64_t seq) {
  const int64_t tokens = kBatch * seq, qkv = d.hidden + 2 * d.headDim;
  const int heads = static_cast<int>(kBatch * kHeads) * kLayers;
  std::vector<Product> list = forward(d, seq);
  const auto backward = [&](int64_t rows, int64_t out, int64_t in, int count) {
    list.push_back(inputGradient(rows, in, out, count));
    list.push_back(weightGradient(rows, out, in, count));
  };
  backward(tokens, kVocab, d.hidden, 1);
  for (const int64_t load : kLoad) {
    const int64_t rows = std::max<int64_t>(1, 2 * tokens * load / 64);
    backward(rows, d.hidden, d.ffn, kLayers);
    backward(rows, 2 * d.ffn, d.hidden, kLayers);
  }
  backward(tokens, kExperts, d.hidden, kLayers);
  backward(tokens, d.hidden, d.hidden, kLayers);
  backward(tokens, qkv, d.hidden, kLayers);
  list.push_back(forwardBy(seq, seq, d.headDim, 2 * heads));
  list.push_back({true, false, seq, d.headDim, seq, 1, 2 * heads});
  list.push_back(inputGradient(seq, d.headDim, seq, heads));
  return list;
}

// Few rows by weights within the second-level cache, within the last and beyond most.
std::vector<Product> decode() {
  std::vector<Product> list;
  for (const int64_t rows : {1, 2, 4, 8}) {
    list.push_back(forwardBy(rows, 1000, 256, 1));
    list.push_back(forwardBy(rows, 3072, 768, 1));
    list.push_back(forwardBy(rows, 98304, 1024, 1));
  }
  return list;
}

std::vector<Product> large() {
  std::vector<Product> list = {forwardBy(64, 64, 64, 1)};
  for (const int64_t side : {128, 256, 512, 1024}) list.push_back(forwardBy(side, side, side, 1));
  return list;
}

const std::pair<const char*, std::function<std::vector<Product>()>> kLists[] = {
    {"tiny-forward", [] { return forward(kTiny, 32); }},   {"tiny-train", [] { return train(kTiny, 8); }},
    {"small-forward", [] { return forward(kSmall, 32); }}, {"small-train", [] { return train(kSmall, 8); }},
    {"large", large},                                      {"decode", decode},
};

// ---------------------------------------------------------------- the machine's limits

// Twelve independent chains of multiply-adds, which never leave the registers.
#define SGEMOE_CHAINS(Vector, set1, fma)                                            \
  Vector sums[12];                                                                  \
  const Vector factor = set1(x), term = set1(1e-9f);                                \
  for (Vector& sum : sums) sum = factor;                                            \
  for (int64_t i = 0; i < rounds; i++) {                                            \
    for (Vector& sum : sums) sum = fma(sum, factor, term);                          \
  }                                                                                 \
  float total = 0;                                                                  \
  for (const Vector& sum : sums) total += reinterpret_cast<const float*>(&sum)[0]; \
  return total;

// The sum of n floats, at the rate of the memory that they are in.
#define SGEMOE_SUM(Vector, load, add)                                               \
  constexpr int64_t kStep = sizeof(Vector) / 4;                                     \
  Vector sums[8] = {};                                                              \
  for (int64_t i = 0; i + 8 * kStep <= n; i += 8 * kStep) {                         \
    for (int64_t j = 0; j < 8; j++) sums[j] = add(sums[j], load(p + i + j * kStep)); \
  }                                                                                 \
  float total = 0;                                                                  \
  for (const Vector& sum : sums) total += reinterpret_cast<const float*>(&sum)[0]; \
  return total;

struct Machine {
  const char* isa;
  int lanes;
  float (*chains)(int64_t rounds, float x);
  float (*sum)(const float* p, int64_t n);
};

#if defined(__x86_64__)
#define SGEMOE_MULADD(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
__attribute__((target("avx512f"))) float chains512(int64_t rounds, float x) {
  SGEMOE_CHAINS(__m512, _mm512_set1_ps, _mm512_fmadd_ps)
}
__attribute__((target("avx512f"))) float sum512(const float* p, int64_t n) {
  SGEMOE_SUM(__m512, _mm512_loadu_ps, _mm512_add_ps)
}
__attribute__((target("avx2,fma"))) float chains256(int64_t rounds, float x) {
  SGEMOE_CHAINS(__m256, _mm256_set1_ps, _mm256_fmadd_ps)
}
__attribute__((target("avx2"))) float sum256(const float* p, int64_t n) {
  SGEMOE_SUM(__m256, _mm256_loadu_ps, _mm256_add_ps)
}
float chains128(int64_t rounds, float x) { SGEMOE_CHAINS(__m128, _mm_set1_ps, SGEMOE_MULADD) }
float sum128(const float* p, int64_t n) { SGEMOE_SUM(__m128, _mm_loadu_ps, _mm_add_ps) }
constexpr Machine kMachines[] = {
    {"avx512", 16, chains512, sum512}, {"avx2", 8, chains256, sum256}, {"baseline", 4, chains128, sum128}};
#else
#define SGEMOE_MULADD(a, b, c) vfmaq_f32(c, a, b)
float chains128(int64_t rounds, float x) { SGEMOE_CHAINS(float32x4_t, vdupq_n_f32, SGEMOE_MULADD) }
float sum128(const float* p, int64_t n) { SGEMOE_SUM(float32x4_t, vld1q_f32, vaddq_f32) }
constexpr Machine kMachines[] = {{"neon", 4, chains128, sum128}};
#endif

const Machine& machineOf(const KernelTable& table) {
  for (const Machine& machine : kMachines) {
    if (std::strcmp(machine.isa, table.instructionSet) == 0) return machine;
  }
  return kMachines[0];
}

volatile float sink;
constexpr int64_t kPeakRounds = 2000;

std::function<void()> peakRun(const Machine& machine) {
  return [&machine] { sink = machine.chains(kPeakRounds, 0.5f); };
}

double peakFlops(const Machine& machine) { return 2.0 * 12 * kPeakRounds * machine.lanes; }

double nanosecondsOf(const std::function<void()>& run, int64_t repeats) {
  const auto start = Clock::now();
  for (int64_t i = 0; i < repeats; i++) run();
  const std::chrono::duration<double, std::nano> spent = Clock::now() - start;
  return spent.count() / static_cast<double>(repeats);
}

double medianOf(std::vector<double> samples) {
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return samples[samples.size() / 2];
}

// The median of each: all in turn, so that a slow moment of the machine meets them alike.
std::vector<double> inTurn(const std::vector<std::function<void()>>& runs, int samples) {
  constexpr double kNsPerSample = 30e3;
  std::vector<int64_t> repeats;
  for (const auto& run : runs) {
    run();
    repeats.push_back(1 + static_cast<int64_t>(kNsPerSample / (nanosecondsOf(run, 3) + 1)));
  }
  std::vector<std::vector<double>> times(runs.size());
  for (int i = 0; i < samples; i++) {
    for (size_t r = 0; r < runs.size(); r++) times[r].push_back(nanosecondsOf(runs[r], repeats[r]));
  }
  std::vector<double> medians;
  for (const auto& samplesOfOne : times) medians.push_back(medianOf(samplesOfOne));
  return medians;
}

// ---------------------------------------------------------------- running products

struct Memory {
  std::vector<float> floats;
  size_t used = 0;

  float* take(int64_t n) {
    const size_t aligned = (reinterpret_cast<uintptr_t>(floats.data()) / 4 + used + 15) / 16 * 16;
    float* at = reinterpret_cast<float*>(aligned * 4);
    used = static_cast<size_t>(at - floats.data() + n);
    return at;
  }
};

struct Operands {
  const float* a;
  const float* b;
  float* packed;  // null where B isn't weights
  float* c;
};

struct Case {
  Product p;
  std::vector<Operands> sets;  // one for each time in a step
};

void multiply(SgemmFn sgemm, const Product& p, const Operands& o) {
  sgemm(p.transA, p.transB, p.m, p.n, p.k, 1, o.a, p.transA ? p.m : p.k, o.b, p.transB ? p.k : p.n, p.beta, o.c, p.n);
}

struct Way {
  const char* name;
  std::function<void(const Product&, const Operands&)> run;
};

std::vector<Case> casesOf(const std::vector<Product>& list, const KernelTable& table, Memory& memory) {
  int64_t floats = 64;
  const auto packedOf = [&](const Product& p) {
    return p.transB && !p.transA && p.count <= kLayers ? table.packedSize(p.n, p.k) : 0;
  };
  for (const Product& p : list) floats += p.count * (p.m * p.k + p.k * p.n + p.m * p.n + packedOf(p) + 64);
  memory.floats.assign(static_cast<size_t>(floats), 0.25f);
  memory.used = 0;
  std::vector<Case> cases;
  for (const Product& p : list) {
    Case one{p, {}};
    for (int i = 0; i < p.count; i++) {
      Operands o{memory.take(p.m * p.k), memory.take(p.k * p.n), nullptr, memory.take(p.m * p.n)};
      if (packedOf(p) > 0) {
        o.packed = memory.take(packedOf(p));
        table.packWeights(o.b, p.k, p.n, p.k, o.packed);
      }
      one.sets.push_back(o);
    }
    cases.push_back(one);
  }
  return cases;
}

void report(const char* label, double flops, double bytes, const std::vector<double>& ns, double peakNs, double readNs) {
  std::printf("%-28s", label);
  for (const double t : ns) std::printf("  %7.1f %4.0f%%", flops / t, 100 * peakNs / t);
  if (readNs > 0) std::printf("   reads %5.1f GB/s, %3.0f%% of a sum", bytes / ns[0], 100 * readNs / ns[0]);
  std::printf("\n");
}

std::string labelOf(const Product& p) {
  char label[64];
  std::snprintf(label, sizeof label, "%s %lldx%lldx%lld%s x%d", p.transA ? "TN" : p.transB ? "NT" : "NN",
                static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k),
                p.beta != 0 ? " +" : "", p.count);
  return label;
}

// One product again and again, its operands in the nearest cache that holds them. `bandwidth`: beside a sum over B.
void runCase(const Case& one, const KernelTable& table, const std::vector<Way>& ways, bool bandwidth) {
  const Product& p = one.p;
  std::vector<std::function<void()>> runs = {peakRun(machineOf(table))};
  for (const Way& way : ways) runs.push_back([&] { way.run(p, one.sets[0]); });
  const int64_t elements = p.n * p.k;
  if (bandwidth) {
    const float* b = one.sets[0].b;
    runs.push_back([&table, b, elements] { sink = machineOf(table).sum(b, elements); });
  }
  std::vector<double> ns = inTurn(runs, p.flops() > 1e8 ? 9 : 41);
  const double peakNs = p.flops() * ns[0] / peakFlops(machineOf(table));
  const double readNs = bandwidth ? ns.back() : 0;
  if (bandwidth) ns.pop_back();
  ns.erase(ns.begin());
  report(labelOf(p).c_str(), p.flops(), 4.0 * static_cast<double>(elements), ns, peakNs, readNs);
}

// All products in the order of a step, each on operands of its own.
void runStep(const std::vector<Case>& cases, const KernelTable& table, const std::vector<Way>& ways) {
  double flops = 0;
  for (const Case& one : cases) flops += one.p.count * one.p.flops();
  std::vector<std::function<void()>> runs = {peakRun(machineOf(table))};
  for (const Way& way : ways) {
    runs.push_back([&] {
      for (const Case& one : cases) {
        for (const Operands& o : one.sets) way.run(one.p, o);
      }
    });
  }
  std::vector<double> ns = inTurn(runs, 41);
  const double peakNs = flops * ns[0] / peakFlops(machineOf(table));
  ns.erase(ns.begin());
  report("the whole list, in order", flops, 0, ns, peakNs, 0);
  std::printf("%-28s", "  in us");
  for (const double t : ns) std::printf("  %10.1f us", t / 1e3);
  std::printf("   peak %.1f us, %.1f GFLOP/s\n", peakNs / 1e3, flops / peakNs);
}

void runList(const char* name, const std::vector<Product>& list, const KernelTable& table,
             const std::vector<Way>& ways) {
  Memory memory;
  const std::vector<Case> cases = casesOf(list, table, memory);
  std::printf("\n%s: GFLOP/s and share of the peak\n%-28s", name, "");
  for (const Way& way : ways) std::printf("  %13s", way.name);
  std::printf("\n");
  const bool bandwidth = std::strcmp(name, "decode") == 0;
  for (const Case& one : cases) runCase(one, table, ways, bandwidth);
  if (!bandwidth) runStep(cases, table, ways);
}

std::vector<Way> waysOf(const KernelTable& table, const BlasLibrary* blas) {
  const auto plain = [](SgemmFn sgemm) {
    return [sgemm](const Product& p, const Operands& o) { multiply(sgemm, p, o); };
  };
  std::vector<Way> ways = {{"built-in", plain(table.sgemm)}};
  if (blas != nullptr) {
    ways.push_back({"library", plain(serialSgemm(blas, &table, SgemmChoice::libraryOnly))});
    ways.push_back({"dispatch", plain(serialSgemm(blas, &table, SgemmChoice::fastestOfTheTwo))});
  }
  const auto packed = table.sgemmPacked;
  const SgemmFn otherwise = table.sgemm;
  ways.push_back({"packed", [packed, otherwise](const Product& p, const Operands& o) {
                    if (o.packed == nullptr) return multiply(otherwise, p, o);
                    packed(p.m, p.n, p.k, 1, o.a, p.k, o.packed, p.beta, o.c, p.n);
                  }});
  return ways;
}

// "nt,64,96,64"
bool parseShape(const char* text, Product* p) {
  char a = 0, b = 0;
  long long m = 0, n = 0, k = 0;
  if (std::sscanf(text, "%c%c,%lld,%lld,%lld", &a, &b, &m, &n, &k) != 5) return false;
  *p = {a == 't', b == 't', m, n, k, 0, 1};
  return true;
}

struct Options {
  const KernelTable* table = bestKernelTable();
  std::vector<std::string> libraries = openBlasPaths();
  std::vector<std::string> lists;
  std::vector<Product> shapes;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; i++) {
    const std::string flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    const char* reason = "not understood";
    Product shape;
    if (flag == "--isa" && kernelTableNamed(value, &reason) != nullptr) {
      options->table = kernelTableNamed(argv[++i], &reason);
    } else if (flag == "--blas" && *value != 0) {
      options->libraries = {argv[++i]};
    } else if (flag == "--shape" && parseShape(value, &shape)) {
      options->shapes.push_back(shape);
      i++;
    } else if (flag[0] != '-') {
      options->lists.push_back(flag);
    } else {
      std::fprintf(stderr, "gemm_bench: %s %s: %s\n", argv[i], value, reason);
      return false;
    }
  }
  return true;
}

int run(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, &options)) return 2;
  const BlasLibrary* blas = nullptr;
  for (const std::string& path : options.libraries) {
    std::string reason;
    if (blas == nullptr) blas = openBlas(path, &reason);
  }
  const KernelTable& table = *options.table;
  const std::string library = blas == nullptr ? "no library" : blas->name + ' ' + blas->version + ' ' + blas->core;
  std::printf("%s; %s\n", table.instructionSet, library.c_str());
  const std::vector<Way> ways = waysOf(table, blas);
  if (!options.shapes.empty()) runList("shapes", options.shapes, table, ways);
  for (const auto& [name, make] : kLists) {
    const bool chosen = std::find(options.lists.begin(), options.lists.end(), name) != options.lists.end();
    if (chosen || (options.lists.empty() && options.shapes.empty())) runList(name, make(), table, ways);
  }
  return 0;
}

}  // namespace
}  // namespace sgemoe

int main(int argc, char** argv) { return sgemoe::run(argc, argv); }
