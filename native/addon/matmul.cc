#include <cmath>

#include "../gemm.h"
#include "../gemm_packed.h"
#include "entries.h"

namespace sgemoe {
namespace {

void sgemm(Args& args) {
  const bool transA = args.flag("transA"), transB = args.flag("transB");
  const int64_t m = args.size("m"), n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Floats a = args.floats("a");
  const int64_t lda = args.size("lda");
  const Floats b = args.floats("b");
  const int64_t ldb = args.size("ldb");
  const double beta = args.real("beta");
  const Floats c = args.floats("c");
  const int64_t ldc = args.size("ldc");
  args.done();
  args.requireLd("lda", lda, transA ? m : k);
  args.requireLd("ldb", ldb, transB ? k : n);
  args.requireLd("ldc", ldc, n);
  args.requireLength(a, transA ? extent(k, m, lda) : extent(m, k, lda));
  args.requireLength(b, transB ? extent(n, k, ldb) : extent(k, n, ldb));
  args.requireLength(c, extent(m, n, ldc));
  if (m == 0 || n == 0) return;
  sgemm(args.gemm(), transA, transB, m, n, k, static_cast<float>(alpha), a.begin(), lda, b.begin(), ldb,
        static_cast<float>(beta), c.begin(), ldc);
}

void sgemmBatch(Args& args) {
  const bool transA = args.flag("transA"), transB = args.flag("transB");
  const int64_t m = args.size("m"), n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Floats a = args.floats("a");
  const int64_t lda = args.size("lda"), strideA = args.size("strideA");
  const Floats b = args.floats("b");
  const int64_t ldb = args.size("ldb"), strideB = args.size("strideB");
  const double beta = args.real("beta");
  const Floats c = args.floats("c");
  const int64_t ldc = args.size("ldc"), strideC = args.size("strideC");
  const int64_t batch = args.size("batch");
  args.done();
  args.requireLd("lda", lda, transA ? m : k);
  args.requireLd("ldb", ldb, transB ? k : n);
  args.requireLd("ldc", ldc, n);
  args.requireLength(a, batchExtent(batch, transA ? extent(k, m, lda) : extent(m, k, lda), strideA));
  args.requireLength(b, batchExtent(batch, transB ? extent(n, k, ldb) : extent(k, n, ldb), strideB));
  args.requireLength(c, batchExtent(batch, extent(m, n, ldc), strideC));
  if (m == 0 || n == 0 || batch == 0) return;
  sgemmBatch(args.gemm(), transA, transB, m, n, k, static_cast<float>(alpha), a.begin(), lda, strideA, b.begin(), ldb,
             strideB, static_cast<float>(beta), c.begin(), ldc, strideC, batch);
}

// One past the last row that a group uses, 0 when no group has rows.
double usedRows(const Ints& rowStarts, int64_t groups) {
  const int32_t* starts = rowStarts.begin();
  return starts[groups] == starts[0] ? 0 : starts[groups];
}

void sgemmGrouped(Args& args) {
  const bool transB = args.flag("transB");
  const int64_t groups = args.size("groups");
  const Ints rowStarts = args.ints("rowStarts");
  const int64_t n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Floats a = args.floats("a");
  const int64_t lda = args.size("lda");
  const Floats b = args.floats("b");
  const int64_t ldb = args.size("ldb"), strideB = args.size("strideB");
  const double beta = args.real("beta");
  const Floats c = args.floats("c");
  const int64_t ldc = args.size("ldc");
  args.done();
  args.requireLd("lda", lda, k);
  args.requireLd("ldb", ldb, transB ? k : n);
  args.requireLd("ldc", ldc, n);
  args.requireLength(rowStarts, static_cast<double>(groups) + 1);
  args.requireLength(b, batchExtent(groups, transB ? extent(n, k, ldb) : extent(k, n, ldb), strideB));
  args.requireRowStarts(rowStarts, groups);
  const double rows = usedRows(rowStarts, groups);
  args.requireLength(a, extent(rows, k, lda));
  args.requireLength(c, extent(rows, n, ldc));
  if (rows == 0 || n == 0) return;
  sgemmGrouped(args.gemm(), transB, groups, rowStarts.begin(), n, k, static_cast<float>(alpha), a.begin(), lda,
               b.begin(), ldb, strideB, static_cast<float>(beta), c.begin(), ldc);
}

void sgemmGroupedTransA(Args& args) {
  const int64_t groups = args.size("groups");
  const Ints rowStarts = args.ints("rowStarts");
  const int64_t m = args.size("m"), n = args.size("n");
  const double alpha = args.real("alpha");
  const Floats a = args.floats("a");
  const int64_t lda = args.size("lda");
  const Floats b = args.floats("b");
  const int64_t ldb = args.size("ldb");
  const double beta = args.real("beta");
  const Floats c = args.floats("c");
  const int64_t ldc = args.size("ldc"), strideC = args.size("strideC");
  args.done();
  args.requireLd("lda", lda, m);
  args.requireLd("ldb", ldb, n);
  args.requireLd("ldc", ldc, n);
  args.requireLength(rowStarts, static_cast<double>(groups) + 1);
  args.requireLength(c, batchExtent(groups, extent(m, n, ldc), strideC));
  args.requireRowStarts(rowStarts, groups);
  const double rows = usedRows(rowStarts, groups);
  args.requireLength(a, extent(rows, m, lda));
  args.requireLength(b, extent(rows, n, ldb));
  if (m == 0 || n == 0) return;
  sgemmGroupedTransA(args.gemm(), groups, rowStarts.begin(), m, n, static_cast<float>(alpha), a.begin(), lda,
                     b.begin(), ldb, static_cast<float>(beta), c.begin(), ldc, strideC);
}

// ---------------------------------------------------------------- weights packed beforehand

double packedLength(const Args& args, int64_t n, int64_t k) {
  const double elements = static_cast<double>(n) * static_cast<double>(k);
  if (elements > 1e15) return std::ceil(elements / 16) * 16;  // larger than any array, and int64 might not hold it
  return static_cast<double>(args.kernels().packedSize(n, k));
}

double packedSize(Args& args) {
  const int64_t n = args.size("n"), k = args.size("k");
  args.done();
  return args.packs() ? packedLength(args, n, k) : 0;
}

void packWeights(Args& args) {
  const Floats b = args.floats("b");
  const int64_t ldb = args.size("ldb"), strideB = args.size("strideB"), groups = args.size("groups");
  const int64_t n = args.size("n"), k = args.size("k");
  const Floats packed = args.floats("packed");
  args.done();
  args.requireLd("ldb", ldb, k);
  args.requireLength(b, batchExtent(groups, extent(n, k, ldb), strideB));
  args.requireLength(packed, static_cast<double>(groups) * packedLength(args, n, k));
  if (n == 0 || k == 0 || groups == 0) return;
  packWeights(args.kernels(), b.begin(), ldb, strideB, groups, n, k, packed.begin());
}

void sgemmPacked(Args& args) {
  const int64_t m = args.size("m"), n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Floats a = args.floats("a");
  const int64_t lda = args.size("lda");
  const Floats packed = args.floats("packed");
  const double beta = args.real("beta");
  const Floats c = args.floats("c");
  const int64_t ldc = args.size("ldc");
  args.done();
  args.requireLd("lda", lda, k);
  args.requireLd("ldc", ldc, n);
  args.requireLength(a, extent(m, k, lda));
  args.requireLength(packed, packedLength(args, n, k));
  args.requireLength(c, extent(m, n, ldc));
  if (m == 0 || n == 0) return;
  sgemmPacked(args.kernels(), m, n, k, static_cast<float>(alpha), a.begin(), lda, packed.begin(),
              static_cast<float>(beta), c.begin(), ldc);
}

void sgemmGroupedPacked(Args& args) {
  const int64_t groups = args.size("groups");
  const Ints rowStarts = args.ints("rowStarts");
  const int64_t n = args.size("n"), k = args.size("k");
  const double alpha = args.real("alpha");
  const Floats a = args.floats("a");
  const int64_t lda = args.size("lda");
  const Floats packed = args.floats("packed");
  const double beta = args.real("beta");
  const Floats c = args.floats("c");
  const int64_t ldc = args.size("ldc");
  args.done();
  args.requireLd("lda", lda, k);
  args.requireLd("ldc", ldc, n);
  args.requireLength(rowStarts, static_cast<double>(groups) + 1);
  args.requireLength(packed, static_cast<double>(groups) * packedLength(args, n, k));
  args.requireRowStarts(rowStarts, groups);
  const double rows = usedRows(rowStarts, groups);
  args.requireLength(a, extent(rows, k, lda));
  args.requireLength(c, extent(rows, n, ldc));
  if (rows == 0 || n == 0) return;
  sgemmGroupedPacked(args.kernels(), groups, rowStarts.begin(), n, k, static_cast<float>(alpha), a.begin(), lda,
                     packed.begin(), static_cast<float>(beta), c.begin(), ldc);
}

}  // namespace

void addMatmulEntries(std::vector<Entry>& entries) {
  entries.insert(entries.end(), {
                                    SGEMOE_ENTRY(sgemm),
                                    SGEMOE_ENTRY(sgemmBatch),
                                    SGEMOE_ENTRY(sgemmGrouped),
                                    SGEMOE_ENTRY(sgemmGroupedTransA),
                                    SGEMOE_ENTRY(packedSize),
                                    SGEMOE_ENTRY(packWeights),
                                    SGEMOE_ENTRY(sgemmPacked),
                                    SGEMOE_ENTRY(sgemmGroupedPacked),
                                });
}

}  // namespace sgemoe
