'use strict';
/**
 * Causal attention over one long sequence in two ways: by the attention kernels, and unblocked, with all scores in memory.
 * The unblocked way is a batched matmul to scores [heads, S, S], a softmax over the visible part of each row, and a batched
 * matmul with the values; its backward reads the probabilities that its forward left. Both use the library's own kernels.
 */
const HEADS = 4;
const DIM = 64;
const LD = HEADS * DIM;
const SCALE = 1 / Math.sqrt(DIM);

/** Inputs and outputs of both ways; q, k, v, out and their gradients are [S, heads * dim]. */
function attentionArrays(seq, floats) {
  const inputs = ['q', 'k', 'v', 'dOut'].map((name, stream) => [name, floats(seq * LD, stream)]);
  const outputs = ['out', 'dq', 'dk', 'dv'].map((name) => [name, new Float32Array(seq * LD)]);
  return {
    ...Object.fromEntries([...inputs, ...outputs]),
    seq,
    lse: new Float32Array(HEADS * seq),
    starts: new Int32Array(1),
    lengths: Int32Array.of(seq),
  };
}

/** @returns {{ forward: () => void, backward: () => void }} */
function blocked(kernels, { q, k, v, out, lse, dOut, dq, dk, dv, starts, lengths, seq }) {
  const matrices = [q, 0, LD, k, 0, LD, 0, v, 0, LD, 0, out, 0, LD, lse, 0];
  const shape = [starts, 0, lengths, 0, 1, seq, HEADS, HEADS, DIM, SCALE];
  const gradients = [dOut, 0, dq, 0, dk, 0, dv, 0];
  return {
    forward: () => kernels.attentionForward(...matrices, ...shape),
    backward: () => kernels.attentionBackward(...matrices, ...gradients, ...shape),
  };
}

/** @returns {{ forward: () => void, backward: () => void, bytes: { forward: number, backward: number } }} */
function unblocked(kernels, { q, k, v, out, dOut, dq, dk, dv, seq: S }) {
  const matrix = S * S;
  const probs = new Float32Array(HEADS * matrix);
  const dProbs = new Float32Array(HEADS * matrix);
  /** scores = alpha * x y^T for each head. */
  const scores = (alpha, x, y, to) =>
    kernels.sgemmBatch(
      false,
      true,
      S,
      S,
      DIM,
      alpha,
      x,
      0,
      LD,
      DIM,
      y,
      0,
      LD,
      DIM,
      0,
      to,
      0,
      S,
      matrix,
      HEADS,
    );
  /** to = alpha * op(weights) x for each head. */
  const weighted = (trans, alpha, weights, x, to) =>
    kernels.sgemmBatch(
      trans,
      false,
      S,
      DIM,
      S,
      alpha,
      weights,
      0,
      S,
      matrix,
      x,
      0,
      LD,
      DIM,
      0,
      to,
      0,
      LD,
      DIM,
      HEADS,
    );
  return {
    forward() {
      scores(SCALE, q, k, probs);
      for (let row = 0; row < HEADS * S; row++) {
        const seen = (row % S) + 1;
        kernels.softmaxForward(probs, row * S, probs, row * S, 1, seen);
        probs.fill(0, row * S + seen, (row + 1) * S);
      }
      weighted(false, 1, probs, v, out);
    },
    backward() {
      weighted(true, 1, probs, dOut, dv);
      scores(1, dOut, v, dProbs);
      kernels.softmaxBackward(probs, 0, dProbs, 0, dProbs, 0, HEADS * S, S);
      weighted(false, SCALE, dProbs, k, dq);
      weighted(true, SCALE, dProbs, q, dk);
    },
    bytes: { forward: probs.byteLength, backward: probs.byteLength + dProbs.byteLength },
  };
}

module.exports = { DIM, HEADS, attentionArrays, blocked, unblocked };
