// The loss, the optimizer, and operations on flat buffers of parameters.
#include "areas.h"
#include "entries.h"

namespace sgemoe::entries {

double crossEntropy(Args& args) {
  const Floats logits = args.floats("logits");
  const Ints targets = args.ints("targets");
  const Floats losses = args.floats("losses");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  const auto ignoreIndex = static_cast<int32_t>(args.integer("ignoreIndex", INT32_MIN, -double{INT32_MIN}));
  const double gradScale = args.real("gradScale");
  const bool writeGradient = args.flag("writeGradient");
  args.done();
  Areas areas(args);
  const double scores = static_cast<double>(rows) * static_cast<double>(cols);
  writeGradient ? areas.writes(logits, scores) : areas.reads(logits, scores);
  areas.reads(targets, rows);
  areas.writes(losses, rows);
  args.requireIndicesOr(ignoreIndex, targets, rows, cols);
  if (rows == 0 || cols == 0) return 0;
  areas.requireApart();
  return args.kernels().crossEntropy(logits.begin(), targets.begin(), losses.begin(), rows, cols, ignoreIndex,
                                     gradScale, writeGradient);
}

double sumSquares(Args& args) {
  const Floats x = args.floats("x");
  const int64_t n = args.size("n");
  args.done();
  Areas areas(args);
  areas.reads(x, n);
  return args.kernels().sumSquares(x.begin(), n);
}

void scale(Args& args) {
  const Floats x = args.floats("x");
  const int64_t n = args.size("n");
  const double factor = args.real("factor");
  args.done();
  Areas areas(args);
  areas.writes(x, n);
  args.kernels().scale(x.begin(), n, static_cast<float>(factor));
}

void axpy(Args& args) {
  const int64_t n = args.size("n");
  const double alpha = args.real("alpha");
  const Floats x = args.floats("x"), y = args.floats("y");
  args.done();
  Areas areas(args);
  areas.reads(x, n);
  areas.writes(y, n);
  areas.requireApart();
  args.kernels().axpy(n, static_cast<float>(alpha), x.begin(), y.begin());
}

void adamw(Args& args) {
  const Floats param = args.floats("param"), grad = args.floats("grad");
  const Floats m = args.floats("m"), v = args.floats("v");
  const int64_t n = args.size("n");
  AdamwArgs settings;
  settings.lr = args.real("lr");
  settings.beta1 = args.real("beta1");
  settings.beta2 = args.real("beta2");
  settings.eps = args.real("eps");
  settings.weightDecay = args.real("weightDecay");
  settings.biasCorrection1 = args.real("biasCorrection1");
  settings.biasCorrection2 = args.real("biasCorrection2");
  settings.gradScale = args.real("gradScale");
  args.done();
  Areas areas(args);
  areas.writes(param, n);
  areas.reads(grad, n);
  areas.writes(m, n);
  areas.writes(v, n);
  areas.requireApart();
  args.kernels().adamw(param.begin(), grad.begin(), m.begin(), v.begin(), n, settings);
}

void randomNormal(Args& args) {
  constexpr double kEndOfWords = 4294967296.0;
  const Floats out = args.floats("out");
  const int64_t n = args.size("n");
  const auto seedLow = static_cast<uint32_t>(args.integer("seedLow", 0, kEndOfWords));
  const auto seedHigh = static_cast<uint32_t>(args.integer("seedHigh", 0, kEndOfWords));
  const auto stream = static_cast<uint32_t>(args.integer("stream", 0, kEndOfWords));
  const double std = args.real("std");
  args.done();
  Areas areas(args);
  areas.writes(out, n);
  sgemoe::randomNormal(out.begin(), n, seedLow, seedHigh, stream, std);
}

}  // namespace sgemoe::entries
