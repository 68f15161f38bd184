#include "entries.h"

namespace sgemoe {
namespace {

void rope(Args& args) {
  const Floats x = args.floats("x");
  const int64_t ldx = args.size("ldx");
  const Floats cos = args.floats("cos"), sin = args.floats("sin");
  const int64_t maxPositions = args.size("maxPositions");
  const Ints positions = args.ints("positions");
  const int64_t rows = args.size("rows"), nHeads = args.size("nHeads"), headDim = args.size("headDim");
  const bool inverse = args.flag("inverse");
  args.done();
  if (headDim % 2 != 0) args.throwRange("headDim must be even, got " + args.text(headDim));
  const double cols = static_cast<double>(nHeads) * headDim, angles = static_cast<double>(maxPositions) * (headDim / 2);
  args.requireLd("ldx", ldx, cols);
  args.requireLength(x, extent(rows, cols, ldx));
  args.requireLength(cos, angles);
  args.requireLength(sin, angles);
  args.requireLength(positions, rows);
  args.requireIndices(positions, rows, maxPositions);
  if (rows == 0 || cols == 0) return;
  args.kernels().rope(x.begin(), ldx, cos.begin(), sin.begin(), positions.begin(), rows, nHeads, headDim, inverse);
}

// The arguments that forward and backward share, and their checks.
struct AttentionCall {
  Floats q, k, v, out, lse;
  Ints queryStarts, kvLengths;
  AttentionShape shape;
  double cols, kvCols, rows;

  void readOperands(Args& args) {
    q = args.floats("q");
    shape.ldq = args.size("ldq");
    k = args.floats("k");
    shape.ldk = args.size("ldk");
    shape.kBatchStride = args.size("kBatchStride");
    v = args.floats("v");
    shape.ldv = args.size("ldv");
    shape.vBatchStride = args.size("vBatchStride");
    out = args.floats("out");
    shape.ldo = args.size("ldo");
    lse = args.floats("lse");
  }

  void readSizes(Args& args) {
    queryStarts = args.ints("queryStarts");
    kvLengths = args.ints("kvLengths");
    shape.batch = args.size("batch");
    shape.queryLen = args.size("queryLen");
    shape.nHeads = args.size("nHeads");
    shape.nKvHeads = args.size("nKvHeads");
    shape.headDim = args.size("headDim");
    shape.scale = static_cast<float>(args.real("scale"));
    args.done();
    cols = static_cast<double>(shape.nHeads) * shape.headDim;
    kvCols = static_cast<double>(shape.nKvHeads) * shape.headDim;
    rows = static_cast<double>(shape.batch) * shape.queryLen;
  }

  void checkDimensions(const Args& args) const {
    if (shape.nHeads != 0 && (shape.nKvHeads == 0 || shape.nHeads % shape.nKvHeads != 0)) {
      args.throwRange("nHeads must be a multiple of nKvHeads, " + args.text(shape.nKvHeads) + ", got " +
                      args.text(shape.nHeads));
    }
    args.requireLd("ldq", shape.ldq, cols);
    args.requireLd("ldk", shape.ldk, kvCols);
    args.requireLd("ldv", shape.ldv, kvCols);
    args.requireLd("ldo", shape.ldo, cols);
  }

  void checkQueries(const Args& args) const {
    args.requireLength(q, extent(rows, cols, shape.ldq));
    args.requireLength(out, extent(rows, cols, shape.ldo));
    args.requireLength(lse, rows * shape.nHeads);
  }

  void checkLengths(const Args& args) {
    args.requireLength(queryStarts, shape.batch);
    args.requireLength(kvLengths, shape.batch);
    args.requireNonNegative(queryStarts, shape.batch);
    args.requireNonNegative(kvLengths, shape.batch);
    shape.queryStarts = queryStarts.begin();
    shape.kvLengths = kvLengths.begin();
  }

  // Elements of a key or value array that the sequences reach: depends on the contents of kvLengths, so it is asked
  // for last.
  double cacheExtent(int64_t batchStride, int64_t ld) const {
    double end = 0;
    for (int64_t b = 0; b < shape.batch; b++) {
      const double one = extent(shape.kvLengths[b], kvCols, ld);
      const double reach = static_cast<double>(b) * batchStride + one;
      if (one > 0 && reach > end) end = reach;
    }
    return end;
  }
};

void attentionForward(Args& args) {
  AttentionCall call{};
  call.readOperands(args);
  call.readSizes(args);
  call.checkDimensions(args);
  call.checkQueries(args);
  call.checkLengths(args);
  args.requireLength(call.k, call.cacheExtent(call.shape.kBatchStride, call.shape.ldk));
  args.requireLength(call.v, call.cacheExtent(call.shape.vBatchStride, call.shape.ldv));
  if (call.rows == 0 || call.cols == 0) return;
  args.kernels().attentionForward(call.shape, call.q.begin(), call.k.begin(), call.v.begin(), call.out.begin(),
                                  call.lse.begin());
}

void attentionBackward(Args& args) {
  AttentionCall call{};
  call.readOperands(args);
  const Floats dOut = args.floats("dOut"), dq = args.floats("dq"), dk = args.floats("dk"), dv = args.floats("dv");
  call.readSizes(args);
  call.checkDimensions(args);
  call.checkQueries(args);
  args.requireLength(dOut, extent(call.rows, call.cols, call.shape.ldo));
  args.requireLength(dq, extent(call.rows, call.cols, call.shape.ldq));
  call.checkLengths(args);
  const double keyExtent = call.cacheExtent(call.shape.kBatchStride, call.shape.ldk);
  const double valueExtent = call.cacheExtent(call.shape.vBatchStride, call.shape.ldv);
  args.requireLength(call.k, keyExtent);
  args.requireLength(call.v, valueExtent);
  args.requireLength(dk, keyExtent);
  args.requireLength(dv, valueExtent);
  if (call.rows == 0 || call.cols == 0) return;
  args.kernels().attentionBackward(call.shape, call.q.begin(), call.k.begin(), call.v.begin(), call.out.begin(),
                                   call.lse.begin(), dOut.begin(), dq.begin(), dk.begin(), dv.begin());
}

}  // namespace

void addAttentionEntries(std::vector<Entry>& entries) {
  entries.insert(entries.end(), {
                                    SGEMOE_ENTRY(rope),
                                    SGEMOE_ENTRY(attentionForward),
                                    SGEMOE_ENTRY(attentionBackward),
                                });
}

}  // namespace sgemoe
