'use strict';

const BYTES = 4;
/** Of a row of an expert: it goes to the owner, and its output comes back; gradients go the same ways. */
const MOVES_OF_FORWARD = 2;

/**
 * What each rank sends in a step, at least, as the mean over the ranks. Every `expertParallel` neighbours have each expert once; the load of
 * experts is even.
 * @param {any} config a ModelConfig
 * @param {{ ranks: number, expertParallel?: number, tokens: number, gradientCheckpointing?: boolean }} layout `tokens` are those of a rank
 * @returns {{ hiddenBytes: number, shownBytes: number, sentBytes: number }} what can hide behind the backward: sums of the gradients of
 *   what all ranks have; what nothing hides: the weights that were updated, sums of the experts' gradients, and rows for other ranks'
 *   experts; and both together
 */
function leastSent(config, { ranks, expertParallel = 1, tokens, gradientCheckpointing = false }) {
  const { nMoeLayers, nExperts, ffnDim, hiddenDim, topKExperts } = config;
  const divided = expertParallel === 1 ? 0 : nMoeLayers * nExperts * 3 * ffnDim * hiddenDim;
  const hiddenBytes = partsBytes(config.totalParams() - divided, ranks);
  const ofExperts = partsBytes(divided / expertParallel, ranks / expertParallel);
  // All blocks but the last compute again what they kept nothing of.
  const again = gradientCheckpointing ? nMoeLayers - (config.isDense(config.nLayers - 1) ? 0 : 1) : 0;
  const moves = MOVES_OF_FORWARD * (2 * nMoeLayers + again);
  const rowsAway = (tokens * topKExperts * (expertParallel - 1)) / expertParallel;
  const shownBytes = hiddenBytes + 2 * ofExperts + moves * rowsAway * BYTES * hiddenDim;
  return { hiddenBytes, shownBytes, sentBytes: hiddenBytes + shownBytes };
}

/** Bytes of all parts but a rank's own: what it sends to have them summed, and again to hand out what became of its part. */
function partsBytes(parameters, ranks) {
  return (BYTES * parameters * (ranks - 1)) / ranks;
}

/**
 * The efficiency of a training on several ranks on paper: a rank's time alone over its time among the others. What hides does so as far
 * as the backward lasts, two thirds of the time alone.
 * @param {{ computeS: number, hiddenBytes: number, shownBytes: number, gbitPerSecond: number }} step of a rank, which sends as much as it
 *   receives
 */
function efficiencyOnPaper({ computeS, hiddenBytes, shownBytes, gbitPerSecond }) {
  const wireS = (bytes) => (8 * bytes) / (gbitPerSecond * 1e9);
  const shownS = Math.max(0, wireS(hiddenBytes) - (2 / 3) * computeS) + wireS(shownBytes);
  return computeS / (computeS + shownS);
}

module.exports = { efficiencyOnPaper, leastSent };
