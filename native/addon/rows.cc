#include "areas.h"
#include "entries.h"

namespace sgemoe::entries {

void exp(Args& args) {
  const Floats x = args.floats("x"), y = args.floats("y");
  const int64_t n = args.size("n");
  args.done();
  Areas areas(args);
  areas.reads(x, n);
  areas.writes(y, n);
  areas.requireApart(y, x);
  args.kernels().exp(x.begin(), y.begin(), n);
}

void silu(Args& args) {
  const Floats x = args.floats("x"), y = args.floats("y");
  const int64_t n = args.size("n");
  args.done();
  Areas areas(args);
  areas.reads(x, n);
  areas.writes(y, n);
  areas.requireApart(y, x);
  args.kernels().silu(x.begin(), y.begin(), n);
}

void softmaxForward(Args& args) {
  const Floats x = args.floats("x"), y = args.floats("y");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  args.done();
  Areas areas(args);
  const double elements = extent(rows, cols, cols);
  areas.reads(x, elements);
  areas.writes(y, elements);
  if (elements == 0) return;
  areas.requireApart(y, x);
  args.kernels().softmaxForward(x.begin(), y.begin(), rows, cols);
}

void softmaxBackward(Args& args) {
  const Floats y = args.floats("y"), dy = args.floats("dy"), dx = args.floats("dx");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  args.done();
  Areas areas(args);
  const double elements = extent(rows, cols, cols);
  areas.reads(y, elements);
  areas.reads(dy, elements);
  areas.writes(dx, elements);
  if (elements == 0) return;
  areas.requireApart(dx, dy);
  args.kernels().softmaxBackward(y.begin(), dy.begin(), dx.begin(), rows, cols);
}

void rmsNormForward(Args& args) {
  const Floats x = args.floats("x");
  const int64_t ldx = args.size("ldx");
  const Floats gamma = args.floats("gamma"), y = args.floats("y");
  const int64_t ldy = args.size("ldy");
  const Floats invRms = args.floats("invRms");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  const double eps = args.real("eps");
  args.done();
  Areas areas(args);
  args.requireLd("ldx", ldx, cols);
  args.requireLd("ldy", ldy, cols);
  areas.reads(x, matrix(rows, cols, ldx));
  areas.reads(gamma, cols);
  areas.writes(y, matrix(rows, cols, ldy));
  areas.writes(invRms, rows);
  if (rows == 0 || cols == 0) return;
  areas.requireApart(y, x);
  args.kernels().rmsNormForward(x.begin(), ldx, gamma.begin(), y.begin(), ldy, invRms.begin(), rows, cols, eps);
}

void rmsNormBackward(Args& args) {
  const Floats x = args.floats("x");
  const int64_t ldx = args.size("ldx");
  const Floats gamma = args.floats("gamma"), invRms = args.floats("invRms"), dy = args.floats("dy");
  const int64_t lddy = args.size("lddy");
  const Floats dx = args.floats("dx");
  const int64_t lddx = args.size("lddx");
  const bool accumulateDx = args.flag("accumulateDx");
  const Floats dGamma = args.floats("dGamma");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  args.done();
  Areas areas(args);
  args.requireLd("ldx", ldx, cols);
  args.requireLd("lddy", lddy, cols);
  args.requireLd("lddx", lddx, cols);
  areas.reads(x, matrix(rows, cols, ldx));
  areas.reads(gamma, cols);
  areas.reads(invRms, rows);
  areas.reads(dy, matrix(rows, cols, lddy));
  areas.writes(dx, matrix(rows, cols, lddx));
  areas.writes(dGamma, cols);
  if (rows == 0 || cols == 0) return;
  accumulateDx ? areas.requireApart() : areas.requireApart(dx, dy);
  args.kernels().rmsNormBackward(x.begin(), ldx, gamma.begin(), invRms.begin(), dy.begin(), lddy, dx.begin(), lddx,
                                 accumulateDx, dGamma.begin(), rows, cols);
}

void swigluForward(Args& args) {
  const Floats gateUp = args.floats("gateUp"), y = args.floats("y");
  const int64_t rows = args.size("rows"), ffn = args.size("ffn");
  args.done();
  Areas areas(args);
  const double elements = extent(rows, ffn, ffn);
  areas.reads(gateUp, 2 * elements);
  areas.writes(y, elements);
  if (elements == 0) return;
  areas.requireApart();
  args.kernels().swigluForward(gateUp.begin(), y.begin(), rows, ffn);
}

void swigluBackward(Args& args) {
  const Floats gateUp = args.floats("gateUp"), dy = args.floats("dy"), dGateUp = args.floats("dGateUp");
  const int64_t rows = args.size("rows"), ffn = args.size("ffn");
  args.done();
  Areas areas(args);
  const double elements = extent(rows, ffn, ffn);
  areas.reads(gateUp, 2 * elements);
  areas.reads(dy, elements);
  areas.writes(dGateUp, 2 * elements);
  if (elements == 0) return;
  areas.requireApart(dGateUp, gateUp);
  args.kernels().swigluBackward(gateUp.begin(), dy.begin(), dGateUp.begin(), rows, ffn);
}

}  // namespace sgemoe::entries
