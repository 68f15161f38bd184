#include "entries.h"

namespace sgemoe {
namespace {

void exp(Args& args) {
  const Floats x = args.floats("x"), y = args.floats("y");
  const int64_t n = args.size("n");
  args.done();
  args.requireLength(x, n);
  args.requireLength(y, n);
  args.kernels().exp(x.begin(), y.begin(), n);
}

void silu(Args& args) {
  const Floats x = args.floats("x"), y = args.floats("y");
  const int64_t n = args.size("n");
  args.done();
  args.requireLength(x, n);
  args.requireLength(y, n);
  args.kernels().silu(x.begin(), y.begin(), n);
}

void softmaxForward(Args& args) {
  const Floats x = args.floats("x"), y = args.floats("y");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  args.done();
  const double elements = extent(rows, cols, cols);
  args.requireLength(x, elements);
  args.requireLength(y, elements);
  if (elements == 0) return;
  args.kernels().softmaxForward(x.begin(), y.begin(), rows, cols);
}

void softmaxBackward(Args& args) {
  const Floats y = args.floats("y"), dy = args.floats("dy"), dx = args.floats("dx");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  args.done();
  const double elements = extent(rows, cols, cols);
  args.requireLength(y, elements);
  args.requireLength(dy, elements);
  args.requireLength(dx, elements);
  if (elements == 0) return;
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
  args.requireLd("ldx", ldx, cols);
  args.requireLd("ldy", ldy, cols);
  args.requireLength(x, extent(rows, cols, ldx));
  args.requireLength(gamma, cols);
  args.requireLength(y, extent(rows, cols, ldy));
  args.requireLength(invRms, rows);
  if (rows == 0 || cols == 0) return;
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
  args.requireLd("ldx", ldx, cols);
  args.requireLd("lddy", lddy, cols);
  args.requireLd("lddx", lddx, cols);
  args.requireLength(x, extent(rows, cols, ldx));
  args.requireLength(gamma, cols);
  args.requireLength(invRms, rows);
  args.requireLength(dy, extent(rows, cols, lddy));
  args.requireLength(dx, extent(rows, cols, lddx));
  args.requireLength(dGamma, cols);
  if (rows == 0 || cols == 0) return;
  args.kernels().rmsNormBackward(x.begin(), ldx, gamma.begin(), invRms.begin(), dy.begin(), lddy, dx.begin(), lddx,
                                 accumulateDx, dGamma.begin(), rows, cols);
}

void swigluForward(Args& args) {
  const Floats gateUp = args.floats("gateUp"), y = args.floats("y");
  const int64_t rows = args.size("rows"), ffn = args.size("ffn");
  args.done();
  const double elements = extent(rows, ffn, ffn);
  args.requireLength(gateUp, 2 * elements);
  args.requireLength(y, elements);
  if (elements == 0) return;
  args.kernels().swigluForward(gateUp.begin(), y.begin(), rows, ffn);
}

void swigluBackward(Args& args) {
  const Floats gateUp = args.floats("gateUp"), dy = args.floats("dy"), dGateUp = args.floats("dGateUp");
  const int64_t rows = args.size("rows"), ffn = args.size("ffn");
  args.done();
  const double elements = extent(rows, ffn, ffn);
  args.requireLength(gateUp, 2 * elements);
  args.requireLength(dy, elements);
  args.requireLength(dGateUp, 2 * elements);
  if (elements == 0) return;
  args.kernels().swigluBackward(gateUp.begin(), dy.begin(), dGateUp.begin(), rows, ffn);
}

}  // namespace

void addRowEntries(std::vector<Entry>& entries) {
  entries.insert(entries.end(), {
                                    SGEMOE_ENTRY(exp),
                                    SGEMOE_ENTRY(silu),
                                    SGEMOE_ENTRY(softmaxForward),
                                    SGEMOE_ENTRY(softmaxBackward),
                                    SGEMOE_ENTRY(rmsNormForward),
                                    SGEMOE_ENTRY(rmsNormBackward),
                                    SGEMOE_ENTRY(swigluForward),
                                    SGEMOE_ENTRY(swigluBackward),
                                });
}

}  // namespace sgemoe
