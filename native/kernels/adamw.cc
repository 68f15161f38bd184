// AdamW (Loshchilov & Hutter 2019, alg. 2) over flat buffers.
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// A double as the sum of two floats. beta2 = 0.999 as one float is off by 1e-8, which is 1e-5 of the 1 - beta2 that
// the running mean forgets in each step: v would settle 1e-5 off.
struct Split {
  Vf high, low;
  explicit Split(double x) : high(set1((float)x)), low(set1((float)(x - (float)x))) {}
};

// beta*old + fresh
inline Vf decay(const Split& beta, Vf old, Vf fresh) { return fma(beta.high, old, fma(beta.low, old, fresh)); }

// Prefetch distance in floats. The processor's own prefetching stops at each 4 KiB page of each of the four streams. With
// this distance AdamW runs at the rate of a plain pass over the same memory, 8 % faster than without (512 floats are no
// better, 1024 are worse).
constexpr int64_t kAhead = 256;

}  // namespace

void adamw(float* param, const float* grad, float* m, float* v, int64_t n, const AdamwArgs& args) {
  const Split beta1(args.beta1), beta2(args.beta2);
  const Vf fresh1 = set1((float)(1 - args.beta1)), fresh2 = set1((float)(1 - args.beta2));
  const Vf gradScale = set1((float)args.gradScale), eps = set1((float)args.eps);
  const Vf step = set1((float)(args.lr / args.biasCorrection1)), shrink = set1((float)(args.lr * args.weightDecay));
  const Vf rootScale = set1((float)(1 / __builtin_sqrt(args.biasCorrection2)));
  forChunks(n, cost::kAdamw, kLanes, [=](int64_t begin, int64_t end) {
    float* const p = param + begin;
    const float* const dp = grad + begin;
    float* const m1 = m + begin;
    float* const m2 = v + begin;
    forVectors(end - begin, [=](auto place, int64_t i) {
      prefetch(p + i + kAhead);
      prefetch(dp + i + kAhead);
      prefetch(m1 + i + kAhead);
      prefetch(m2 + i + kAhead);
      const Vf g = place.load(dp + i) * gradScale;
      const Vf mean = decay(beta1, place.load(m1 + i), fresh1 * g);
      const Vf square = decay(beta2, place.load(m2 + i), fresh2 * g * g);
      const Vf before = place.load(p + i);
      const Vf move = fma(step, mean / fma(quickSqrt(square), rootScale, eps), shrink * before);
      place.store(m1 + i, mean);
      place.store(m2 + i, square);
      place.store(p + i, before - move);
    });
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
