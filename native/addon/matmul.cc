#include <cmath>

#include "../gemm.h"
#include "../gemm_packed.h"
#include "areas.h"
#include "entries.h"

namespace sgemoe::entries {
namespace {

// A matrix argument with its leading dimension and, where the kernel takes one, its stride. Braces evaluate in their order
// and construct in place: copying a value that was just written costs as much as reading it.
struct Operand {
  Floats array;
  const char* ldName;
  int64_t ld, stride;

  Operand(Args& args, const char* name, const char* ldName)
      : array{args.floats(name)}, ldName{ldName}, ld{args.size(ldName)}, stride{0} {}
  Operand(Args& args, const char* name, const char* ldName, const char* strideName)
      : array{args.floats(name)}, ldName{ldName}, ld{args.size(ldName)}, stride{args.size(strideName)} {}

  float* data() const { return array.begin(); }
};

// op(X) [rows, cols] of an operand: checks the leading dimension.
SGEMOE_INLINE Area stored(const Args& args, const Operand& x, bool transposed, double rows, double cols) {
  args.requireLd(x.ldName, x.ld, transposed ? rows : cols);
  return matrix(transposed ? cols : rows, transposed ? rows : cols, x.ld);
}

struct Groups {
  int64_t count;
  Ints rowStarts;

  explicit Groups(Args& args) : count{args.size("groups")}, rowStarts{args.ints("rowStarts")} {}

  void require(Areas& areas) const { areas.reads(rowStarts, static_cast<double>(count) + 1); }
  void requireContents(const Args& args) const { args.requireRowStarts(rowStarts, count); }
  int64_t firstRow() const { return rowStarts.begin()[0]; }
  int64_t endRow() const { return rowStarts.begin()[count]; }
  bool empty() const { return firstRow() == endRow(); }

  SGEMOE_INLINE Area rows(double cols, double ld) const { return rowsOfGroups(firstRow(), endRow(), cols, ld); }
};

// The entries of sgemm and gemmBfloat16, which differ in what multiplies.

void multiply(Args& args, const Gemm& gemm) {
  const bool transA = args.flag("transA"), transB = args.flag("transB");
  const int64_t m = args.size("m"), n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Operand a(args, "a", "lda"), b(args, "b", "ldb");
  const double beta = args.real("beta");
  const Operand c(args, "c", "ldc");
  args.done();
  Areas areas(args);
  const Area areaA = stored(args, a, transA, m, k), areaB = stored(args, b, transB, k, n);
  const Area areaC = stored(args, c, false, m, n);
  areas.reads(a.array, areaA);
  areas.reads(b.array, areaB);
  areas.writes(c.array, areaC);
  if (m == 0 || n == 0) return;
  areas.requireApart();
  sgemoe::sgemm(gemm, transA, transB, m, n, k, static_cast<float>(alpha), a.data(), a.ld, b.data(), b.ld,
                static_cast<float>(beta), c.data(), c.ld);
}

void multiplyGroups(Args& args, const Gemm& gemm) {
  const bool transB = args.flag("transB");
  const Groups groups(args);
  const int64_t n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Operand a(args, "a", "lda"), b(args, "b", "ldb", "strideB");
  const double beta = args.real("beta");
  const Operand c(args, "c", "ldc");
  args.done();
  Areas areas(args);
  args.requireLd("lda", a.ld, k);
  const Area oneB = stored(args, b, transB, k, n);
  args.requireLd("ldc", c.ld, n);
  groups.require(areas);
  areas.reads(b.array, repeated(groups.count, oneB, b.stride));
  groups.requireContents(args);
  areas.reads(a.array, groups.rows(k, a.ld));
  areas.writes(c.array, groups.rows(n, c.ld));
  if (groups.empty() || n == 0) return;
  areas.requireApart();
  sgemoe::sgemmGrouped(gemm, transB, groups.count, groups.rowStarts.begin(), n, k, static_cast<float>(alpha),
                       a.data(), a.ld, b.data(), b.ld, b.stride, static_cast<float>(beta), c.data(), c.ld);
}

void multiplyGroupsTransA(Args& args, const Gemm& gemm) {
  const Groups groups(args);
  const int64_t m = args.size("m"), n = args.size("n");
  const double alpha = args.real("alpha");
  const Operand a(args, "a", "lda"), b(args, "b", "ldb");
  const double beta = args.real("beta");
  const Operand c(args, "c", "ldc", "strideC");
  args.done();
  Areas areas(args);
  args.requireLd("lda", a.ld, m);
  args.requireLd("ldb", b.ld, n);
  const Area areaC = repeated(groups.count, stored(args, c, false, m, n), c.stride);
  groups.require(areas);
  areas.writes(c.array, areaC);
  groups.requireContents(args);
  areas.reads(a.array, groups.rows(m, a.ld));
  areas.reads(b.array, groups.rows(n, b.ld));
  if (m == 0 || n == 0) return;
  requireDistinct(args, "strideC", areaC);
  areas.requireApart();
  sgemoe::sgemmGroupedTransA(gemm, groups.count, groups.rowStarts.begin(), m, n, static_cast<float>(alpha),
                             a.data(), a.ld, b.data(), b.ld, static_cast<float>(beta), c.data(), c.ld,
                             c.stride);
}

}  // namespace

void sgemm(Args& args) { multiply(args, args.gemm()); }
void sgemmGrouped(Args& args) { multiplyGroups(args, args.gemm()); }
void sgemmGroupedTransA(Args& args) { multiplyGroupsTransA(args, args.gemm()); }
void gemmBfloat16(Args& args) { multiply(args, args.rounded()); }
void gemmBfloat16Grouped(Args& args) { multiplyGroups(args, args.rounded()); }
void gemmBfloat16GroupedTransA(Args& args) { multiplyGroupsTransA(args, args.rounded()); }

void sgemmBatch(Args& args) {
  const bool transA = args.flag("transA"), transB = args.flag("transB");
  const int64_t m = args.size("m"), n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Operand a(args, "a", "lda", "strideA"), b(args, "b", "ldb", "strideB");
  const double beta = args.real("beta");
  const Operand c(args, "c", "ldc", "strideC");
  const int64_t batch = args.size("batch");
  args.done();
  Areas areas(args);
  const Area areaA = repeated(batch, stored(args, a, transA, m, k), a.stride);
  const Area areaB = repeated(batch, stored(args, b, transB, k, n), b.stride);
  const Area areaC = repeated(batch, stored(args, c, false, m, n), c.stride);
  areas.reads(a.array, areaA);
  areas.reads(b.array, areaB);
  areas.writes(c.array, areaC);
  if (m == 0 || n == 0 || batch == 0) return;
  requireDistinct(args, "strideC", areaC);
  areas.requireApart();
  sgemoe::sgemmBatch(args.gemm(), transA, transB, m, n, k, static_cast<float>(alpha), a.data(), a.ld, a.stride,
                     b.data(), b.ld, b.stride, static_cast<float>(beta), c.data(), c.ld, c.stride, batch);
}

// ---------------------------------------------------------------- packed weights

namespace {

double packedLength(const Args& args, int64_t n, int64_t k) {
  const double elements = static_cast<double>(n) * static_cast<double>(k);
  if (elements > 1e15) return std::ceil(elements / 16) * 16;  // larger than any array, and int64 might not hold it
  return static_cast<double>(args.kernels().packedSize(n, k));
}

}  // namespace

double packedSize(Args& args) {
  const int64_t n = args.size("n"), k = args.size("k");
  args.done();
  return args.packs() ? packedLength(args, n, k) : 0;
}

void packWeights(Args& args) {
  const Operand b(args, "b", "ldb", "strideB");
  const int64_t groups = args.size("groups"), n = args.size("n"), k = args.size("k");
  const Floats packed = args.floats("packed");
  args.done();
  Areas areas(args);
  areas.reads(b.array, repeated(groups, stored(args, b, true, k, n), b.stride));
  areas.writes(packed, static_cast<double>(groups) * packedLength(args, n, k));
  if (n == 0 || k == 0 || groups == 0) return;
  areas.requireApart();
  sgemoe::packWeights(args.kernels(), b.data(), b.ld, b.stride, groups, n, k, packed.begin());
}

void sgemmPacked(Args& args) {
  const int64_t m = args.size("m"), n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Operand a(args, "a", "lda");
  const Floats packed = args.floats("packed");
  const double beta = args.real("beta");
  const Operand c(args, "c", "ldc");
  args.done();
  Areas areas(args);
  const Area areaA = stored(args, a, false, m, k), areaC = stored(args, c, false, m, n);
  areas.reads(a.array, areaA);
  areas.reads(packed, packedLength(args, n, k));
  areas.writes(c.array, areaC);
  if (m == 0 || n == 0) return;
  areas.requireApart();
  sgemoe::sgemmPacked(args.kernels(), m, n, k, static_cast<float>(alpha), a.data(), a.ld, packed.begin(),
                      static_cast<float>(beta), c.data(), c.ld);
}

void sgemmGroupedPacked(Args& args) {
  const Groups groups(args);
  const int64_t n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Operand a(args, "a", "lda");
  const Floats packed = args.floats("packed");
  const double beta = args.real("beta");
  const Operand c(args, "c", "ldc");
  args.done();
  Areas areas(args);
  args.requireLd("lda", a.ld, k);
  args.requireLd("ldc", c.ld, n);
  groups.require(areas);
  areas.reads(packed, static_cast<double>(groups.count) * packedLength(args, n, k));
  groups.requireContents(args);
  areas.reads(a.array, groups.rows(k, a.ld));
  areas.writes(c.array, groups.rows(n, c.ld));
  if (groups.empty() || n == 0) return;
  areas.requireApart();
  sgemoe::sgemmGroupedPacked(args.kernels(), groups.count, groups.rowStarts.begin(), n, k, static_cast<float>(alpha),
                             a.data(), a.ld, packed.begin(), static_cast<float>(beta), c.data(), c.ld);
}

}  // namespace sgemoe::entries
