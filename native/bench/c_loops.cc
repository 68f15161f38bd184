#include "c_loops.h"

#include <math.h>
#include <string.h>

namespace sgemoe::loops {

void exp(const float* __restrict x, float* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = expf(x[i]);
}

void silu(const float* __restrict x, float* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1 + expf(-x[i]));
}

static float maxOf(const float* x, int64_t n) {
  float max = x[0];
  for (int64_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
  return max;
}

// y = exp(x - max); returns the sum.
static float exps(const float* x, float* y, int64_t n, float max) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) {
    y[i] = expf(x[i] - max);
    sum += y[i];
  }
  return sum;
}

void softmaxForward(const float* __restrict x, float* __restrict y, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
    const float inverse = 1 / exps(x, y, cols, maxOf(x, cols));
    for (int64_t i = 0; i < cols; i++) y[i] *= inverse;
  }
}

void softmaxBackward(const float* __restrict y, const float* __restrict dy, float* __restrict dx, int64_t rows,
                     int64_t cols) {
  for (int64_t r = 0; r < rows; r++, y += cols, dy += cols, dx += cols) {
    float dot = 0;
    for (int64_t i = 0; i < cols; i++) dot += y[i] * dy[i];
    for (int64_t i = 0; i < cols; i++) dx[i] = y[i] * (dy[i] - dot);
  }
}

void rmsNormForward(const float* __restrict x, const float* __restrict gamma, float* __restrict y,
                    float* __restrict invRms, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
    float squares = 0;
    for (int64_t i = 0; i < cols; i++) squares += x[i] * x[i];
    const float inverse = 1 / sqrtf(squares / cols + 1e-6f);
    invRms[r] = inverse;
    for (int64_t i = 0; i < cols; i++) y[i] = gamma[i] * x[i] * inverse;
  }
}

void rmsNormBackward(const float* __restrict x, const float* __restrict gamma, const float* __restrict invRms,
                     const float* __restrict dy, float* __restrict dx, float* __restrict dGamma, int64_t rows,
                     int64_t cols) {
  for (int64_t r = 0; r < rows; r++, x += cols, dy += cols, dx += cols) {
    const float s = invRms[r];
    float dot = 0;
    for (int64_t i = 0; i < cols; i++) {
      dot += dy[i] * gamma[i] * x[i];
      dGamma[i] += dy[i] * x[i] * s;
    }
    const float back = s * s * s * dot / cols;
    for (int64_t i = 0; i < cols; i++) dx[i] = s * dy[i] * gamma[i] - back * x[i];
  }
}

void swigluForward(const float* __restrict gateUp, float* __restrict y, int64_t rows, int64_t ffn) {
  for (int64_t r = 0; r < rows; r++, gateUp += 2 * ffn, y += ffn) {
    for (int64_t i = 0; i < ffn; i++) y[i] = gateUp[i] / (1 + expf(-gateUp[i])) * gateUp[ffn + i];
  }
}

void swigluBackward(const float* __restrict gateUp, const float* __restrict dy, float* __restrict dGateUp,
                    int64_t rows, int64_t ffn) {
  for (int64_t r = 0; r < rows; r++, gateUp += 2 * ffn, dGateUp += 2 * ffn, dy += ffn) {
    for (int64_t i = 0; i < ffn; i++) {
      const float gate = gateUp[i], s = 1 / (1 + expf(-gate));
      dGateUp[i] = dy[i] * gateUp[ffn + i] * s * (1 + gate * (1 - s));
      dGateUp[ffn + i] = dy[i] * gate * s;
    }
  }
}

void rope(float* __restrict x, const float* __restrict cos, const float* __restrict sin,
          const int32_t* __restrict positions, int64_t rows, int64_t nHeads, int64_t headDim) {
  const int64_t half = headDim / 2;
  for (int64_t r = 0; r < rows; r++) {
    const float* const c = cos + positions[r] * half;
    const float* const s = sin + positions[r] * half;
    for (int64_t h = 0; h < nHeads; h++, x += headDim) {
      for (int64_t i = 0; i < half; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * c[i] - b * s[i];
        x[2 * i + 1] = a * s[i] + b * c[i];
      }
    }
  }
}

// The chosen experts of one token, each the best of those that are left, and their weights.
static void choose(const float* p, int64_t nExperts, int64_t topK, int32_t* chosen, float* weights) {
  float sum = 0;
  for (int64_t k = 0; k < topK; k++) {
    int32_t best = -1;
    for (int32_t e = 0; e < nExperts; e++) {
      bool taken = false;
      for (int64_t j = 0; j < k; j++) taken |= chosen[j] == e;
      if (!taken && (best < 0 || p[e] > p[best])) best = e;
    }
    chosen[k] = best;
    sum += p[best];
  }
  for (int64_t k = 0; k < topK; k++) weights[k] = p[chosen[k]] / sum;
}

void routeForward(const RouteShape& shape, const float* __restrict logits, float* __restrict probs,
                  float* __restrict lse, int32_t* __restrict topkIndices, float* __restrict topkWeights,
                  int32_t* __restrict rowStarts, int32_t* __restrict slotToToken, int32_t* __restrict tokenToSlots,
                  float* __restrict probMeans) {
  const auto [tokens, nExperts, topK, renormalise] = shape;
  memset(probMeans, 0, static_cast<size_t>(nExperts) * sizeof(float));
  memset(rowStarts, 0, static_cast<size_t>(nExperts + 1) * sizeof(int32_t));
  for (int64_t t = 0; t < tokens; t++) {
    const float* const x = logits + t * nExperts;
    float* const p = probs + t * nExperts;
    const float max = maxOf(x, nExperts);
    const float sum = exps(x, p, nExperts, max), inverse = 1 / sum;
    lse[t] = logf(sum) + max;
    for (int64_t e = 0; e < nExperts; e++) p[e] *= inverse;
    for (int64_t e = 0; e < nExperts; e++) probMeans[e] += p[e];
    choose(p, nExperts, topK, topkIndices + t * topK, topkWeights + t * topK);
    for (int64_t k = 0; k < topK; k++) rowStarts[topkIndices[t * topK + k]]++;
  }
  int32_t next = 0;
  for (int64_t e = 0; e <= nExperts; e++) {
    const int32_t count = rowStarts[e];
    rowStarts[e] = next;
    next += count;
  }
  for (int64_t i = 0; i < tokens * topK; i++) {
    const int32_t slot = rowStarts[topkIndices[i]]++;
    slotToToken[slot] = static_cast<int32_t>(i / topK);
    tokenToSlots[i] = slot;
  }
  memmove(rowStarts + 1, rowStarts, static_cast<size_t>(nExperts) * sizeof(int32_t));
  rowStarts[0] = 0;
  for (int64_t e = 0; e < nExperts; e++) probMeans[e] /= static_cast<float>(tokens);
}

void routeBackward(const RouteShape& shape, const float* __restrict probs, const float* __restrict lse,
                   const int32_t* __restrict topkIndices, const float* __restrict topkWeights,
                   const float* __restrict dTopkWeights, const int32_t* __restrict rowStarts,
                   float* __restrict dLogits, float auxScale, float zScale) {
  const auto [tokens, nExperts, topK, renormalise] = shape;
  for (int64_t t = 0; t < tokens; t++) {
    const float* const p = probs + t * nExperts;
    const int32_t* const chosen = topkIndices + t * topK;
    float* const d = dLogits + t * nExperts;
    float sum = 0, mean = 0;
    for (int64_t k = 0; k < topK; k++) {
      sum += p[chosen[k]];
      mean += dTopkWeights[t * topK + k] * topkWeights[t * topK + k];
    }
    for (int64_t e = 0; e < nExperts; e++) d[e] = auxScale * static_cast<float>(rowStarts[e + 1] - rowStarts[e]);
    for (int64_t k = 0; k < topK; k++) d[chosen[k]] += (dTopkWeights[t * topK + k] - mean) / sum;
    float dot = 0;
    for (int64_t e = 0; e < nExperts; e++) dot += p[e] * d[e];
    for (int64_t e = 0; e < nExperts; e++) d[e] = p[e] * (d[e] - dot + zScale * lse[t]);
  }
}

void gatherRows(const float* __restrict src, const int32_t* __restrict indices, float* __restrict dst, int64_t rows,
                int64_t cols) {
  for (int64_t r = 0; r < rows; r++, dst += cols) {
    memcpy(dst, src + indices[r] * cols, static_cast<size_t>(cols) * sizeof(float));
  }
}

void scatterAddRows(const float* __restrict x, const int32_t* __restrict slots, const float* __restrict weights,
                    float* __restrict y, int64_t tokens, int64_t topK, int64_t cols) {
  for (int64_t t = 0; t < tokens; t++, y += cols) {
    for (int64_t k = 0; k < topK; k++) {
      const float* const row = x + slots[t * topK + k] * cols;
      const float weight = weights[t * topK + k];
      for (int64_t i = 0; i < cols; i++) y[i] += weight * row[i];
    }
  }
}

void scatterAddRowsBackward(const float* __restrict dy, const float* __restrict x, const int32_t* __restrict slots,
                            const float* __restrict weights, float* __restrict dx, float* __restrict dWeights,
                            int64_t tokens, int64_t topK, int64_t cols) {
  for (int64_t t = 0; t < tokens; t++, dy += cols) {
    for (int64_t k = 0; k < topK; k++) {
      const int64_t row = slots[t * topK + k] * cols;
      const float weight = weights[t * topK + k];
      float dot = 0;
      for (int64_t i = 0; i < cols; i++) {
        dot += dy[i] * x[row + i];
        dx[row + i] = weight * dy[i];
      }
      dWeights[t * topK + k] = dot;
    }
  }
}

void embeddingBackward(const float* __restrict dy, const int32_t* __restrict ids, float* __restrict dTable,
                       int64_t tokens, int64_t cols) {
  for (int64_t t = 0; t < tokens; t++, dy += cols) {
    float* const row = dTable + ids[t] * cols;
    for (int64_t i = 0; i < cols; i++) row[i] += dy[i];
  }
}

double crossEntropy(float* __restrict logits, const int32_t* __restrict targets, float* __restrict losses,
                    int64_t rows, int64_t cols, float gradScale) {
  double total = 0;
  for (int64_t r = 0; r < rows; r++, logits += cols) {
    const float max = maxOf(logits, cols), target = logits[targets[r]];
    const float sum = exps(logits, logits, cols, max);
    losses[r] = logf(sum) + max - target;
    total += losses[r];
    const float factor = gradScale / sum;
    for (int64_t i = 0; i < cols; i++) logits[i] *= factor;
    logits[targets[r]] -= gradScale;
  }
  return total;
}

double sumSquares(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

void scale(float* x, int64_t n, float factor) {
  for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

void axpy(int64_t n, float alpha, const float* __restrict x, float* __restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] += alpha * x[i];
}

void adamw(float* __restrict param, const float* __restrict grad, float* __restrict m, float* __restrict v, int64_t n,
           const AdamwArgs& args) {
  const auto lr = static_cast<float>(args.lr), decay = static_cast<float>(args.weightDecay);
  const auto beta1 = static_cast<float>(args.beta1), beta2 = static_cast<float>(args.beta2);
  const auto inverse1 = static_cast<float>(1 / args.biasCorrection1);
  const auto inverse2 = static_cast<float>(1 / args.biasCorrection2);
  const auto eps = static_cast<float>(args.eps), gradScale = static_cast<float>(args.gradScale);
  for (int64_t i = 0; i < n; i++) {
    const float g = gradScale * grad[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    param[i] -= lr * (decay * param[i] + m[i] * inverse1 / (sqrtf(v[i] * inverse2) + eps));
  }
}

}  // namespace sgemoe::loops
