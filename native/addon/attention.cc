#include <algorithm>

#include "areas.h"
#include "entries.h"

namespace sgemoe::entries {

void rope(Args& args) {
  const Floats x = args.floats("x");
  const int64_t ldx = args.size("ldx");
  const Floats cos = args.floats("cos"), sin = args.floats("sin");
  const int64_t maxPositions = args.size("maxPositions");
  const Ints positions = args.ints("positions");
  const int64_t rows = args.size("rows"), nHeads = args.size("nHeads"), headDim = args.size("headDim");
  const bool halves = args.flag("halves"), inverse = args.flag("inverse");
  args.done();
  Areas areas(args);
  if (headDim % 2 != 0) args.throwRange("headDim must be even, got " + args.text(headDim));
  const double cols = static_cast<double>(nHeads) * headDim, angles = static_cast<double>(maxPositions) * (headDim / 2);
  args.requireLd("ldx", ldx, cols);
  areas.writes(x, matrix(rows, cols, ldx));
  areas.reads(cos, angles);
  areas.reads(sin, angles);
  areas.reads(positions, rows);
  args.requireIndices(positions, rows, maxPositions);
  if (rows == 0 || cols == 0) return;
  areas.requireApart();
  args.kernels().rope(x.begin(), ldx, cos.begin(), sin.begin(), positions.begin(), rows, nHeads, headDim, halves,
                      inverse);
}

namespace {

// The arguments that forward and backward share, and their checks.
struct AttentionCall {
  Floats q, k, v, out, lse;
  StorageType type;
  Bytes storedK, storedV;
  Ints queryStarts, kvLengths;
  AttentionShape shape;
  double cols, kvCols, rows;  // kvCols in the units of ldk: elements, or bytes of stored keys

  void readOperands(Args& args) {
    readQueries(args);
    readKeysAndValues(args, &Args::floats, &k, &v);
    readResults(args);
  }

  void readStored(Args& args) {
    readQueries(args);
    type = args.storageType("type");
    readKeysAndValues(args, &Args::bytes, &storedK, &storedV);
    readResults(args);
  }

  void readQueries(Args& args) {
    q = args.floats("q");
    shape.ldq = args.size("ldq");
  }

  template <class Array>
  void readKeysAndValues(Args& args, Array (Args::*read)(const char*), Array* keys, Array* values) {
    *keys = (args.*read)("k");
    shape.ldk = args.size("ldk");
    shape.kBatchStride = args.size("kBatchStride");
    *values = (args.*read)("v");
    shape.ldv = args.size("ldv");
    shape.vBatchStride = args.size("vBatchStride");
  }

  void readResults(Args& args) {
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

  Area queries(int64_t ld) const { return matrix(rows, cols, ld); }

  void checkLengths(const Args& args, Areas& areas) {
    areas.reads(queryStarts, shape.batch);
    areas.reads(kvLengths, shape.batch);
    args.requireNonNegative(queryStarts, shape.batch);
    args.requireNonNegative(kvLengths, shape.batch);
    shape.queryStarts = queryStarts.begin();
    shape.kvLengths = kvLengths.begin();
  }

  // The area of a key or value array that the sequences read. It depends on the contents of kvLengths, so it comes last.
  Area cache(int64_t batchStride, int64_t ld) const {
    Area area = repeated(shape.batch, matrix(0, kvCols, ld), batchStride);
    for (int64_t b = 0; b < shape.batch; b++) {
      const double one = extent(shape.kvLengths[b], kvCols, ld);
      if (one > 0) area.end = std::max(area.end, static_cast<double>(b) * batchStride + one);
      area.rows = std::max<double>(area.rows, shape.kvLengths[b]);
    }
    return area;
  }
};

}  // namespace

void attentionForward(Args& args) {
  AttentionCall call{};
  call.readOperands(args);
  call.readSizes(args);
  call.checkDimensions(args);
  Areas areas(args);
  areas.reads(call.q, call.queries(call.shape.ldq));
  areas.writes(call.out, call.queries(call.shape.ldo));
  areas.writes(call.lse, call.rows * call.shape.nHeads);
  call.checkLengths(args, areas);
  areas.reads(call.k, call.cache(call.shape.kBatchStride, call.shape.ldk));
  areas.reads(call.v, call.cache(call.shape.vBatchStride, call.shape.ldv));
  if (call.rows == 0 || call.cols == 0) return;
  areas.requireApart();
  args.kernels().attentionForward(call.shape, call.q.begin(), call.k.begin(), call.v.begin(), call.out.begin(),
                                  call.lse.begin());
}

void attentionForwardStored(Args& args) {
  AttentionCall call{};
  call.readStored(args);
  call.readSizes(args);
  const StorageLayout& layout = layoutOf(call.type);
  args.requireWholeBlocks(call.type, call.shape.headDim, "headDim");
  const double headBytes = static_cast<double>(call.shape.headDim / layout.elements) * static_cast<double>(layout.bytes);
  call.kvCols = static_cast<double>(call.shape.nKvHeads) * headBytes;
  call.checkDimensions(args);
  Areas areas(args);
  areas.reads(call.q, call.queries(call.shape.ldq));
  areas.writes(call.out, call.queries(call.shape.ldo));
  areas.writes(call.lse, call.rows * call.shape.nHeads);
  call.checkLengths(args, areas);
  areas.readsBytes(call.storedK, call.cache(call.shape.kBatchStride, call.shape.ldk).end);
  areas.readsBytes(call.storedV, call.cache(call.shape.vBatchStride, call.shape.ldv).end);
  if (call.rows == 0 || call.cols == 0) return;
  areas.requireApart();
  args.kernels().attentionForwardStored(call.shape, call.type, static_cast<int64_t>(headBytes), call.q.begin(),
                                        call.storedK.begin(), call.storedV.begin(), call.out.begin(),
                                        call.lse.begin());
}

void attentionBackward(Args& args) {
  AttentionCall call{};
  call.readOperands(args);
  const Floats dOut = args.floats("dOut"), dq = args.floats("dq"), dk = args.floats("dk"), dv = args.floats("dv");
  call.readSizes(args);
  call.checkDimensions(args);
  Areas areas(args);
  areas.reads(call.q, call.queries(call.shape.ldq));
  areas.reads(call.out, call.queries(call.shape.ldo));
  areas.reads(call.lse, call.rows * call.shape.nHeads);
  areas.reads(dOut, call.queries(call.shape.ldo));
  areas.writes(dq, call.queries(call.shape.ldq));
  call.checkLengths(args, areas);
  const Area keys = call.cache(call.shape.kBatchStride, call.shape.ldk);
  const Area values = call.cache(call.shape.vBatchStride, call.shape.ldv);
  areas.reads(call.k, keys);
  areas.reads(call.v, values);
  areas.writes(dk, keys);
  areas.writes(dv, values);
  if (call.rows == 0 || call.cols == 0) return;
  areas.requireApart();
  args.kernels().attentionBackward(call.shape, call.q.begin(), call.k.begin(), call.v.begin(), call.out.begin(),
                                   call.lse.begin(), dOut.begin(), dq.begin(), dk.begin(), dv.begin());
}

}  // namespace sgemoe::entries
