#include "entries.h"

namespace sgemoe::entries {
namespace {

void requireTopK(const Args& args, const RouteShape& shape) {
  if (shape.topK >= 1 && shape.topK <= shape.nExperts) return;
  args.throwRange("topK must be in [1, " + args.text(shape.nExperts) + "], got " + args.text(shape.topK));
}

RouteShape routeShape(Args& args) {
  RouteShape shape;
  shape.tokens = args.size("tokens");
  shape.nExperts = args.size("nExperts");
  shape.topK = args.size("topK");
  shape.renormalise = args.flag("renormalise");
  return shape;
}

}  // namespace

void routeForward(Args& args) {
  const Floats logits = args.floats("logits"), bias = args.floatsOrNull("bias");
  const Floats probs = args.floats("probs"), lse = args.floats("lse");
  const Ints topkIndices = args.ints("topkIndices");
  const Floats topkWeights = args.floats("topkWeights");
  const Ints rowStarts = args.ints("rowStarts");
  const Ints slotToToken = args.ints("slotToToken"), tokenToSlots = args.ints("tokenToSlots");
  const Floats probMeans = args.floats("probMeans");
  const RouteShape shape = routeShape(args);
  args.done();
  requireTopK(args, shape);
  const double assignments = static_cast<double>(shape.tokens) * shape.topK;
  const double scores = static_cast<double>(shape.tokens) * shape.nExperts;
  args.reads(logits, scores);
  args.reads(bias, shape.nExperts);
  args.writes(probs, scores);
  args.writes(lse, shape.tokens);
  args.writes(topkIndices, assignments);
  args.writes(topkWeights, assignments);
  args.writes(rowStarts, static_cast<double>(shape.nExperts) + 1);
  args.writes(slotToToken, assignments);
  args.writes(tokenToSlots, assignments);
  args.writes(probMeans, shape.nExperts);
  args.requireApart();
  args.kernels().routeForward(shape, logits.begin(), bias.begin(), probs.begin(), lse.begin(), topkIndices.begin(),
                              topkWeights.begin(), rowStarts.begin(), slotToToken.begin(), tokenToSlots.begin(),
                              probMeans.begin());
}

void routeBackward(Args& args) {
  const Floats probs = args.floats("probs"), lse = args.floats("lse");
  const Ints topkIndices = args.ints("topkIndices");
  const Floats topkWeights = args.floats("topkWeights"), dTopkWeights = args.floats("dTopkWeights");
  const Ints rowStarts = args.ints("rowStarts");
  const Floats dLogits = args.floats("dLogits");
  const RouteShape shape = routeShape(args);
  const double auxScale = args.real("auxScale"), zScale = args.real("zScale");
  args.done();
  requireTopK(args, shape);
  const double assignments = static_cast<double>(shape.tokens) * shape.topK;
  const double scores = static_cast<double>(shape.tokens) * shape.nExperts;
  args.reads(probs, scores);
  args.reads(lse, shape.tokens);
  args.reads(topkIndices, assignments);
  args.reads(topkWeights, assignments);
  args.reads(dTopkWeights, assignments);
  args.reads(rowStarts, static_cast<double>(shape.nExperts) + 1);
  args.writes(dLogits, scores);
  args.requireIndices(topkIndices, shape.tokens * shape.topK, shape.nExperts);
  args.requireRowStarts(rowStarts, shape.nExperts);
  args.requireApart();
  args.kernels().routeBackward(shape, probs.begin(), lse.begin(), topkIndices.begin(), topkWeights.begin(),
                               dTopkWeights.begin(), rowStarts.begin(), dLogits.begin(), auxScale, zScale);
}

void gatherRows(Args& args) {
  const Floats src = args.floats("src");
  const int64_t srcRows = args.size("srcRows");
  const Ints indices = args.ints("indices");
  const Floats dst = args.floats("dst");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  args.done();
  args.reads(src, matrix(srcRows, cols, cols));
  args.reads(indices, rows);
  args.writes(dst, matrix(rows, cols, cols));
  args.requireIndices(indices, rows, srcRows);
  if (rows == 0 || cols == 0) return;
  args.requireApart();
  args.kernels().gatherRows(src.begin(), indices.begin(), dst.begin(), rows, cols);
}

void scatterAddRows(Args& args) {
  const Floats x = args.floats("x");
  const int64_t xRows = args.size("xRows");
  const Ints slots = args.ints("slots");
  const Floats weights = args.floatsOrNull("weights"), y = args.floats("y");
  const int64_t tokens = args.size("tokens"), topK = args.size("topK"), cols = args.size("cols");
  args.done();
  const double assignments = static_cast<double>(tokens) * topK;
  args.reads(x, matrix(xRows, cols, cols));
  args.reads(slots, assignments);
  args.reads(weights, assignments);
  args.writes(y, matrix(tokens, cols, cols));
  args.requireIndices(slots, tokens * topK, xRows);
  if (assignments == 0 || cols == 0) return;
  args.requireApart();
  args.kernels().scatterAddRows(x.begin(), slots.begin(), weights.begin(), y.begin(), tokens, topK, cols);
}

void scatterAddRowsBackward(Args& args) {
  const Floats dy = args.floats("dy"), x = args.floats("x");
  const int64_t xRows = args.size("xRows");
  const Ints slots = args.ints("slots");
  const Floats weights = args.floats("weights"), dx = args.floats("dx"), dWeights = args.floats("dWeights");
  const int64_t tokens = args.size("tokens"), topK = args.size("topK"), cols = args.size("cols");
  args.done();
  const double assignments = static_cast<double>(tokens) * topK;
  args.reads(dy, matrix(tokens, cols, cols));
  args.reads(x, matrix(xRows, cols, cols));
  args.reads(slots, assignments);
  args.reads(weights, assignments);
  args.writes(dx, matrix(xRows, cols, cols));
  args.writes(dWeights, assignments);
  args.requireIndices(slots, tokens * topK, xRows);
  if (assignments == 0 || cols == 0) return;
  args.requireApart(dx, x);
  args.kernels().scatterAddRowsBackward(dy.begin(), x.begin(), slots.begin(), weights.begin(), dx.begin(),
                                        dWeights.begin(), tokens, topK, cols);
}

void embeddingBackward(Args& args) {
  const Floats dy = args.floats("dy");
  const Ints ids = args.ints("ids");
  const Floats dTable = args.floats("dTable");
  const int64_t vocabSize = args.size("vocabSize"), tokens = args.size("tokens"), cols = args.size("cols");
  args.done();
  args.reads(dy, matrix(tokens, cols, cols));
  args.reads(ids, tokens);
  args.writes(dTable, matrix(vocabSize, cols, cols));
  args.requireIndices(ids, tokens, vocabSize);
  if (tokens == 0 || cols == 0) return;
  args.requireApart();
  args.kernels().embeddingBackward(dy.begin(), ids.begin(), dTable.begin(), tokens, cols);
}

}  // namespace sgemoe::entries
