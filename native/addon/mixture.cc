#include "areas.h"
#include "entries.h"

namespace sgemoe::entries {
namespace {

void requireTopK(const Args& args, const RouteShape& shape) {
  if (shape.topK >= 1 && shape.topK <= shape.nExperts) return;
  args.throwRange("topK must be in [1, " + args.text(shape.nExperts) + "], got " + args.text(shape.topK));
}

double elements(int64_t rows, int64_t cols) { return static_cast<double>(rows) * static_cast<double>(cols); }

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
  Areas areas(args);
  requireTopK(args, shape);
  const double assignments = static_cast<double>(shape.tokens) * shape.topK;
  const double scores = static_cast<double>(shape.tokens) * shape.nExperts;
  areas.reads(logits, scores);
  areas.reads(bias, shape.nExperts);
  areas.writes(probs, scores);
  areas.writes(lse, shape.tokens);
  areas.writes(topkIndices, assignments);
  areas.writes(topkWeights, assignments);
  areas.writes(rowStarts, static_cast<double>(shape.nExperts) + 1);
  areas.writes(slotToToken, assignments);
  areas.writes(tokenToSlots, assignments);
  areas.writes(probMeans, shape.nExperts);
  areas.requireApart();
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
  Areas areas(args);
  requireTopK(args, shape);
  const double assignments = static_cast<double>(shape.tokens) * shape.topK;
  const double scores = static_cast<double>(shape.tokens) * shape.nExperts;
  areas.reads(probs, scores);
  areas.reads(lse, shape.tokens);
  areas.reads(topkIndices, assignments);
  areas.reads(topkWeights, assignments);
  areas.reads(dTopkWeights, assignments);
  areas.reads(rowStarts, static_cast<double>(shape.nExperts) + 1);
  areas.writes(dLogits, scores);
  args.requireIndices(topkIndices, shape.tokens * shape.topK, shape.nExperts);
  args.requireRowStarts(rowStarts, shape.nExperts);
  areas.requireApart();
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
  Areas areas(args);
  areas.reads(src, elements(srcRows, cols));
  areas.reads(indices, rows);
  areas.writes(dst, elements(rows, cols));
  args.requireIndices(indices, rows, srcRows);
  if (rows == 0 || cols == 0) return;
  areas.requireApart();
  args.kernels().gatherRows(src.begin(), indices.begin(), dst.begin(), rows, cols);
}

void scatterAddRows(Args& args) {
  const Floats x = args.floats("x");
  const int64_t xRows = args.size("xRows");
  const Ints slots = args.ints("slots");
  const Floats weights = args.floatsOrNull("weights"), y = args.floats("y");
  const int64_t tokens = args.size("tokens"), topK = args.size("topK"), cols = args.size("cols");
  args.done();
  Areas areas(args);
  const double assignments = static_cast<double>(tokens) * topK;
  areas.reads(x, elements(xRows, cols));
  areas.reads(slots, assignments);
  areas.reads(weights, assignments);
  areas.writes(y, elements(tokens, cols));
  args.requireIndices(slots, tokens * topK, xRows);
  if (assignments == 0 || cols == 0) return;
  areas.requireApart();
  args.kernels().scatterAddRows(x.begin(), slots.begin(), weights.begin(), y.begin(), tokens, topK, cols);
}

void scatterAddRowsBackward(Args& args) {
  const Floats dy = args.floats("dy"), x = args.floats("x");
  const int64_t xRows = args.size("xRows");
  const Ints slots = args.ints("slots");
  const Floats weights = args.floats("weights"), dx = args.floats("dx"), dWeights = args.floats("dWeights");
  const int64_t tokens = args.size("tokens"), topK = args.size("topK"), cols = args.size("cols");
  args.done();
  Areas areas(args);
  const double assignments = static_cast<double>(tokens) * topK;
  areas.reads(dy, elements(tokens, cols));
  areas.reads(x, elements(xRows, cols));
  areas.reads(slots, assignments);
  areas.reads(weights, assignments);
  areas.writes(dx, elements(xRows, cols));
  areas.writes(dWeights, assignments);
  args.requireIndices(slots, tokens * topK, xRows);
  if (assignments == 0 || cols == 0) return;
  areas.requireApart(dx, x);
  args.kernels().scatterAddRowsBackward(dy.begin(), x.begin(), slots.begin(), weights.begin(), dx.begin(),
                                        dWeights.begin(), tokens, topK, cols);
}

void embeddingBackward(Args& args) {
  const Floats dy = args.floats("dy");
  const Ints ids = args.ints("ids");
  const Floats dTable = args.floats("dTable");
  const int64_t vocabSize = args.size("vocabSize"), tokens = args.size("tokens"), cols = args.size("cols");
  args.done();
  Areas areas(args);
  areas.reads(dy, elements(tokens, cols));
  areas.reads(ids, tokens);
  areas.writes(dTable, elements(vocabSize, cols));
  args.requireIndices(ids, tokens, vocabSize);
  if (tokens == 0 || cols == 0) return;
  areas.requireApart();
  args.kernels().embeddingBackward(dy.begin(), ids.begin(), dTable.begin(), tokens, cols);
}

}  // namespace sgemoe::entries
