import { reads, requireApart, writes } from './areas';
import { type Definitions, requireIndices, requireRowStarts } from './checks';
import { rowMax, shiftedExp } from './rows';
import { Scratch } from './scratch';

const expScratch = new Scratch();
const meanScratch = new Scratch();
const probGradScratch = new Scratch();

function requireTopK(kernel: string, topK: number, nExperts: number): void {
  if (topK >= 1 && topK <= nExperts) return;
  throw new RangeError(`${kernel}: topK must be in [1, ${nExperts}], got ${topK}`);
}

/** Whether score `a` ranks above `b`. NaN ranks below everything; equal scores don't rank above each other. */
function ranksAbove(a: number, b: number): boolean {
  return a > b || (Number.isNaN(b) && !Number.isNaN(a));
}

/**
 * Writes the topK experts with the highest probs + bias, best first. One pass inserts each expert into the list of
 * the best so far, behind its equals, which have lower indices.
 */
function selectExperts(
  probs: Float32Array,
  probsAt: number,
  bias: Float32Array | null,
  biasOffset: number,
  nExperts: number,
  topK: number,
  indices: Int32Array,
  at: number,
): void {
  const score = (e: number): number => probs[probsAt + e] + (bias ? bias[biasOffset + e] : 0);
  for (let e = 0; e < nExperts; e++) {
    const candidate = score(e);
    let place = Math.min(e, topK);
    while (place > 0 && ranksAbove(candidate, score(indices[at + place - 1]))) place--;
    for (let j = Math.min(e, topK - 1); j > place; j--) indices[at + j] = indices[at + j - 1];
    if (place < topK) indices[at + place] = e;
  }
}

/** weights[j] = probs[indices[j]], divided by their sum if renormalise. */
function weighExperts(
  probs: Float32Array,
  probsAt: number,
  indices: Int32Array,
  indicesAt: number,
  weights: Float32Array,
  weightsAt: number,
  topK: number,
  renormalise: boolean,
): void {
  let divisor = 1;
  if (renormalise) {
    divisor = 0;
    for (let j = 0; j < topK; j++) divisor += probs[probsAt + indices[indicesAt + j]];
  }
  for (let j = 0; j < topK; j++) {
    weights[weightsAt + j] = divisor === 0 ? 0 : probs[probsAt + indices[indicesAt + j]] / divisor;
  }
}

/** Counting sort of the assignments by expert, in the order of tokens. */
function sortAssignments(
  indices: Int32Array,
  indicesAt: number,
  rowStarts: Int32Array,
  startsAt: number,
  slotToToken: Int32Array,
  tokensAt: number,
  tokenToSlots: Int32Array,
  slotsAt: number,
  tokens: number,
  nExperts: number,
  topK: number,
): void {
  rowStarts.fill(0, startsAt, startsAt + nExperts + 1);
  for (let a = 0; a < tokens * topK; a++) rowStarts[startsAt + indices[indicesAt + a] + 1]++;
  for (let e = 0; e < nExperts; e++) rowStarts[startsAt + e + 1] += rowStarts[startsAt + e];
  // rowStarts[e] serves as the next free slot of expert e, which leaves it at the start of e + 1 ...
  for (let a = 0; a < tokens * topK; a++) {
    const slot = rowStarts[startsAt + indices[indicesAt + a]]++;
    slotToToken[tokensAt + slot] = Math.floor(a / topK);
    tokenToSlots[slotsAt + a] = slot;
  }
  // ... and is moved back.
  for (let e = nExperts; e > 0; e--) rowStarts[startsAt + e] = rowStarts[startsAt + e - 1];
  rowStarts[startsAt] = 0;
}

/** probs = softmax of a row of logits; zeros where all of them are -inf. Returns their log-sum-exp. */
function softmaxRow(
  logits: Float32Array,
  from: number,
  probs: Float32Array,
  to: number,
  nExperts: number,
): number {
  const exps = expScratch.take(nExperts);
  const max = rowMax(logits, from, nExperts);
  const sum = shiftedExp(logits, from, nExperts, max, exps);
  for (let e = 0; e < nExperts; e++) probs[to + e] = sum === 0 ? 0 : exps[e] / sum;
  return max === Number.NEGATIVE_INFINITY ? max : max + Math.log(sum);
}

/** A token's chosen experts, with their gate weights and the gradients of these. */
interface Chosen {
  readonly indices: Int32Array;
  readonly indicesAt: number;
  readonly weights: Float32Array;
  readonly weightsAt: number;
  readonly gradients: Float32Array;
  readonly gradientsAt: number;
  readonly topK: number;
}

/**
 * Adds to probGrads [E] what the gate weights of a token give: dw_j for weights that are the probabilities themselves, and
 * (dw_j - sum_i dw_i w_i) / sum_i p_i for renormalised ones.
 */
function addWeightGradients(
  probs: Float32Array,
  probsAt: number,
  { indices, indicesAt, weights, weightsAt, gradients, gradientsAt, topK }: Chosen,
  renormalise: boolean,
  probGrads: Float64Array,
): void {
  let chosenSum = 0;
  let weightDot = 0;
  for (let j = 0; j < topK; j++) {
    chosenSum += probs[probsAt + indices[indicesAt + j]];
    weightDot += gradients[gradientsAt + j] * weights[weightsAt + j];
  }
  for (let j = 0; j < topK; j++) {
    const dw = gradients[gradientsAt + j];
    const normalised = chosenSum === 0 ? 0 : (dw - weightDot) / chosenSum;
    probGrads[indices[indicesAt + j]] += renormalise ? normalised : dw;
  }
}

/** dLogits = p (dp - sum p dp + z) for a row of probabilities; z is the gradient of the z-loss. */
function softmaxRowBackward(
  probs: Float32Array,
  probsAt: number,
  probGrads: Float64Array,
  z: number,
  dLogits: Float32Array,
  to: number,
  nExperts: number,
): void {
  let dot = 0;
  for (let e = 0; e < nExperts; e++) dot += probs[probsAt + e] * probGrads[e];
  for (let e = 0; e < nExperts; e++) dLogits[to + e] = probs[probsAt + e] * (probGrads[e] - dot + z);
}

export const routing: Definitions<'routeForward' | 'routeBackward'> = {
  routeForward: {
    signature: `logits:floats logitsOffset bias:floats? biasOffset probs:floats probsOffset
      lse:floats lseOffset
      topkIndices:ints topkIndicesOffset topkWeights:floats topkWeightsOffset rowStarts:ints rowStartsOffset
      slotToToken:ints slotToTokenOffset tokenToSlots:ints tokenToSlotsOffset
      probMeans:floats probMeansOffset tokens nExperts topK renormalise:flag`,
    run(
      logits,
      logitsOffset,
      bias,
      biasOffset,
      probs,
      probsOffset,
      lse,
      lseOffset,
      topkIndices,
      topkIndicesOffset,
      topkWeights,
      topkWeightsOffset,
      rowStarts,
      rowStartsOffset,
      slotToToken,
      slotToTokenOffset,
      tokenToSlots,
      tokenToSlotsOffset,
      probMeans,
      probMeansOffset,
      tokens,
      nExperts,
      topK,
      renormalise,
    ) {
      const name = 'routeForward';
      const assignments = tokens * topK;
      requireTopK(name, topK, nExperts);
      reads(name, 'logits', logits, logitsOffset, tokens * nExperts);
      if (bias) reads(name, 'bias', bias, biasOffset, nExperts);
      writes(name, 'probs', probs, probsOffset, tokens * nExperts);
      writes(name, 'lse', lse, lseOffset, tokens);
      writes(name, 'topkIndices', topkIndices, topkIndicesOffset, assignments);
      writes(name, 'topkWeights', topkWeights, topkWeightsOffset, assignments);
      writes(name, 'rowStarts', rowStarts, rowStartsOffset, nExperts + 1);
      writes(name, 'slotToToken', slotToToken, slotToTokenOffset, assignments);
      writes(name, 'tokenToSlots', tokenToSlots, tokenToSlotsOffset, assignments);
      writes(name, 'probMeans', probMeans, probMeansOffset, nExperts);
      requireApart(name);
      const probSums = meanScratch.zeros(nExperts);
      for (let t = 0; t < tokens; t++) {
        const to = probsOffset + t * nExperts;
        const chosen = topkIndicesOffset + t * topK;
        const weights = topkWeightsOffset + t * topK;
        lse[lseOffset + t] = softmaxRow(logits, logitsOffset + t * nExperts, probs, to, nExperts);
        for (let e = 0; e < nExperts; e++) probSums[e] += probs[to + e];
        selectExperts(probs, to, bias, biasOffset, nExperts, topK, topkIndices, chosen);
        weighExperts(probs, to, topkIndices, chosen, topkWeights, weights, topK, renormalise);
      }
      for (let e = 0; e < nExperts; e++) {
        probMeans[probMeansOffset + e] = tokens === 0 ? 0 : probSums[e] / tokens;
      }
      sortAssignments(
        topkIndices,
        topkIndicesOffset,
        rowStarts,
        rowStartsOffset,
        slotToToken,
        slotToTokenOffset,
        tokenToSlots,
        tokenToSlotsOffset,
        tokens,
        nExperts,
        topK,
      );
    },
  },

  routeBackward: {
    signature: `probs:floats probsOffset lse:floats lseOffset topkIndices:ints topkIndicesOffset
      topkWeights:floats topkWeightsOffset dTopkWeights:floats dTopkWeightsOffset
      rowStarts:ints rowStartsOffset dLogits:floats dLogitsOffset
      tokens nExperts topK renormalise:flag auxScale:real zScale:real`,
    run(
      probs,
      probsOffset,
      lse,
      lseOffset,
      topkIndices,
      topkIndicesOffset,
      topkWeights,
      topkWeightsOffset,
      dTopkWeights,
      dTopkWeightsOffset,
      rowStarts,
      rowStartsOffset,
      dLogits,
      dLogitsOffset,
      tokens,
      nExperts,
      topK,
      renormalise,
      auxScale,
      zScale,
    ) {
      const name = 'routeBackward';
      const assignments = tokens * topK;
      requireTopK(name, topK, nExperts);
      reads(name, 'probs', probs, probsOffset, tokens * nExperts);
      reads(name, 'lse', lse, lseOffset, tokens);
      reads(name, 'topkIndices', topkIndices, topkIndicesOffset, assignments);
      reads(name, 'topkWeights', topkWeights, topkWeightsOffset, assignments);
      reads(name, 'dTopkWeights', dTopkWeights, dTopkWeightsOffset, assignments);
      reads(name, 'rowStarts', rowStarts, rowStartsOffset, nExperts + 1);
      writes(name, 'dLogits', dLogits, dLogitsOffset, tokens * nExperts);
      requireIndices(name, 'topkIndices', topkIndices, topkIndicesOffset, assignments, nExperts);
      requireRowStarts(name, 'rowStarts', rowStarts, rowStartsOffset, nExperts);
      requireApart(name);
      const probGrads = probGradScratch.take(nExperts);
      for (let t = 0; t < tokens; t++) {
        const row = t * nExperts;
        for (let e = 0; e < nExperts; e++) {
          probGrads[e] = auxScale * (rowStarts[rowStartsOffset + e + 1] - rowStarts[rowStartsOffset + e]);
        }
        const chosen = {
          indices: topkIndices,
          indicesAt: topkIndicesOffset + t * topK,
          weights: topkWeights,
          weightsAt: topkWeightsOffset + t * topK,
          gradients: dTopkWeights,
          gradientsAt: dTopkWeightsOffset + t * topK,
          topK,
        };
        addWeightGradients(probs, probsOffset + row, chosen, renormalise, probGrads);
        // Without a z-loss the term must be 0 even if lse is -inf, where the product would be NaN.
        const z = zScale === 0 ? 0 : zScale * lse[lseOffset + t];
        softmaxRowBackward(probs, probsOffset + row, probGrads, z, dLogits, dLogitsOffset + row, nExperts);
      }
    },
  },
};
